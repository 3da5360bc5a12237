//! Parameters as an optimizer sees them: every tensor as it stands in a file, one after the other in one array.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::weights::ALIGN;
use super::super::{PlanLimits, pack};
use crate::network::{Network, Role};

/// Where each tensor lies in one array of all parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatParameters {
    places: Vec<(String, Range<usize>)>,
    by_name: BTreeMap<String, usize>,
    /// Numbers of the array; a tensor begins at a multiple of 64.
    pub len: usize,
}

impl FlatParameters {
    /// Those of `network`, without the statistics of batch normalizations.
    #[must_use]
    pub fn of(network: &Network) -> Self {
        Self::with(network, |role| !role.is_statistic())
    }

    /// The statistics of batch normalizations alone.
    #[must_use]
    pub fn statistics(network: &Network) -> Self {
        Self::with(network, Role::is_statistic)
    }

    fn with(network: &Network, wanted: impl Fn(Role) -> bool) -> Self {
        let mut flat = Self { places: Vec::new(), by_name: BTreeMap::new(), len: 0 };
        for param in network.spec().layers.iter().flat_map(|layer| layer.params()) {
            if !wanted(param.role) {
                continue;
            }
            let start = flat.len.next_multiple_of(ALIGN);
            flat.len = start + network.weight(&param.name).len();
            flat.by_name.insert(param.name.clone(), flat.places.len());
            flat.places.push((param.name, start..flat.len));
        }
        flat.len = flat.len.next_multiple_of(ALIGN);
        flat
    }

    /// Tensors by name, in the order of the array.
    #[must_use]
    pub fn places(&self) -> &[(String, Range<usize>)] {
        &self.places
    }

    /// Where a tensor lies, if there is one of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Range<usize>> {
        self.by_name.get(name).map(|&at| self.places[at].1.clone())
    }

    /// All tensors of `network` in one array, 0 between them.
    #[must_use]
    pub fn numbers(&self, network: &Network) -> Vec<f32> {
        let mut numbers = vec![0.0; self.len];
        for (name, range) in &self.places {
            numbers[range.clone()].copy_from_slice(network.weight(name));
        }
        numbers
    }

    /// For every number of every packed weight the parameters whose sum it is, counted from 1, 0 for none: `[count]`, or
    /// `[2, count]` where sums of two occur. Empty for weights that are not made of parameters alone.
    ///
    /// Packing only moves and adds parameters. So it is enough to pack networks whose parameters are numbers that say
    /// which parameter each is. What holds numbers where all parameters are 0 is not made of them alone.
    #[must_use]
    pub fn maps(&self, network: &Network, limits: &PlanLimits) -> Vec<Vec<u32>> {
        let second = |name: &str| {
            let mut params = network.stages().iter().flat_map(|stage| &stage.params);
            params.any(|param| param.name == name && param.role == Role::BiasHh)
        };
        let second: Vec<bool> = self.places.iter().map(|(name, _)| second(name)).collect();
        // An f32 holds integers up to 2^24 exactly: halves of 16 bits.
        let packed = |group: bool, shift: u32| -> Vec<Vec<u32>> {
            let mut probe = network.clone();
            for ((name, range), &second) in self.places.iter().zip(&second) {
                let number = |at: usize| {
                    #[expect(clippy::cast_possible_truncation, reason = "a half of 16 bits")]
                    let half = (((at + 1) >> shift) & 0xffff) as u16;
                    if second == group { f32::from(half) } else { 0.0 }
                };
                let numbers: Vec<f32> = range.clone().map(number).collect();
                probe.set_weight(name, &numbers);
            }
            let integer = |bits: u32| {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer of 16 bits")]
                let integer = f32::from_bits(bits) as u32;
                integer
            };
            pack(&probe, limits).into_iter().map(|weight| weight.words.into_iter().map(integer).collect()).collect()
        };
        let whole = |group: bool| -> Vec<Vec<u32>> {
            let halves = packed(group, 0).into_iter().zip(packed(group, 16));
            halves.map(|(low, high)| low.iter().zip(high).map(|(low, high)| low | high << 16).collect()).collect()
        };
        let mut nothing = network.clone();
        for (places, value) in [(&self.places, 0.0), (&Self::statistics(network).places, 1.0)] {
            places.iter().for_each(|(name, range)| nothing.set_weight(name, &vec![value; range.len()]));
        }
        let constant = pack(&nothing, limits).into_iter().map(|weight| weight.words.iter().any(|&word| word != 0));
        let sums = whole(false).into_iter().zip(whole(true)).zip(constant);
        sums.map(|((mut first, second), constant)| {
            if constant {
                return Vec::new();
            }
            if second.iter().any(|&at| at > 0) {
                first.extend(second);
            }
            first
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{LayerSpec, NetworkSpec, RecurrentSpec};

    fn network(reset_after: bool) -> Network {
        let lstm = RecurrentSpec { num_layers: 2, peephole: true, ..RecurrentSpec::new("lstm", 3, 5) };
        let gru = RecurrentSpec { bidirectional: true, reset_after, ..RecurrentSpec::new("gru", 5, 4) };
        let layers = vec![LayerSpec::Lstm(lstm), LayerSpec::Gru(gru)];
        Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, 3).unwrap()
    }

    /// What `repack.wgsl` does.
    fn repacked(map: &[u32], count: usize, parameters: &[f32]) -> Vec<f32> {
        let number = |at: u32| if at == 0 { 0.0 } else { parameters[at as usize - 1] };
        let second = |at: usize| map.get(count + at).map_or(0.0, |&at| number(at));
        (0..count).map(|at| number(map[at]) + second(at)).collect()
    }

    #[test]
    fn maps_give_the_packed_weights() {
        for reset_after in [false, true] {
            let network = network(reset_after);
            let limits = PlanLimits::default();
            let flat = FlatParameters::of(&network);
            let parameters = flat.numbers(&network);
            let maps = flat.maps(&network, &limits);
            for (map, weight) in maps.iter().zip(pack(&network, &limits)) {
                let expected: Vec<f32> = weight.words.iter().map(|&bits| f32::from_bits(bits)).collect();
                assert_eq!(repacked(map, expected.len(), &parameters), expected, "{}", weight.label);
                // A control: the parameter beside the right one.
                let beside: Vec<u32> = map.iter().map(|&at| if at > 1 { at - 1 } else { at }).collect();
                assert_ne!(repacked(&beside, expected.len(), &parameters), expected, "{}", weight.label);
            }
        }
    }
}
