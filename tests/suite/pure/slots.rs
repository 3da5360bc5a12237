//! How states are read from their slots and written back: the plan's moves, and the kernel's reference implementation.

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::unstable::plan::{Kernel, PlanParts, ROW_WORKGROUP, parts, slot_moves};
use gatefold::unstable::reference::{NO_SLOT, gather, scatter};
use gatefold::{Error, Network, Plan, PlanLimits, PlanOptions, RunShape};

use crate::common::{lstm, spec};

fn network() -> Network {
    let projected = RecurrentSpec { num_layers: 3, proj_size: 5, ..lstm(4, 9) };
    let gru = RecurrentSpec::new("gru", 5, 70);
    Network::random(spec(vec![LayerSpec::Lstm(projected), LayerSpec::Gru(gru)]), 1).unwrap()
}

/// Every index that a move reaches lies within what is bound, for every T and B, and each part is moved once.
#[test]
fn moves_stay_within_their_buffers() {
    let network = network();
    for (steps, batch, slots) in [(1, 1, 1), (2, 7, 100), (5, 1000, 1000), (6, 64, 9)] {
        let run =
            Plan::new(&network, RunShape::new(steps, batch), &PlanLimits::default(), &PlanOptions::default()).unwrap();
        let (all, inside) = (parts(&run), PlanParts::of(&run));
        assert_eq!(all.len(), 3 * 2 + 1, "h and c of three levels, h of the GRU");
        let moves = slot_moves(&run, slots, &PlanLimits::default()).unwrap();
        assert_eq!((moves.gather.len(), moves.scatter.len()), (all.len(), all.len()));
        for (index, part) in all.iter().enumerate() {
            let (gather, scatter) = (&moves.gather[index], &moves.scatter[index]);
            let pool = inside.buffers.len() + 2 + index;
            for (dispatch, dense, first, slice) in
                [(gather, 2, gather.output_row, part.start.unwrap()), (scatter, 1, scatter.input_row, part.end)]
            {
                assert_eq!(dispatch.kernel, Kernel::Slots);
                let width = u64::from(dispatch.constant("WIDTH").unwrap());
                let row = u64::from(first);
                assert_eq!(row * width * 4, slice.offset, "the first row is where the slice begins");
                assert!((row + batch as u64) * width * 4 <= dispatch.bindings[dense].bytes);
                assert_eq!(dispatch.bindings[dense], inside.whole(slice.buffer));
                assert_eq!(dispatch.bindings[3 - dense], planned_pool(pool, slots as u64 * width * 4));
                assert_eq!(dispatch.bindings[0].bytes, 4 * batch as u64);
                let [x, y, z] = dispatch.workgroups.map(u64::from);
                assert!(x * y * z * u64::from(ROW_WORKGROUP) >= batch as u64 * width);
                assert!(x.max(y) <= u64::from(PlanLimits::default().max_workgroups) && z == 1);
            }
            assert_eq!((gather.constant("SCATTER"), scatter.constant("SCATTER")), (Some(0), Some(1)));
        }
    }
}

fn planned_pool(buffer: usize, bytes: u64) -> gatefold::unstable::plan::Slice {
    gatefold::unstable::plan::Slice { buffer, offset: 0, bytes }
}

#[test]
fn more_slots_than_can_be_bound_are_refused() {
    let run = Plan::new(&network(), RunShape::new(1, 1), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    // The widest part is the GRU's h of 70 numbers.
    let most = usize::try_from(PlanLimits::default().max_binding / (70 * 4)).unwrap();
    slot_moves(&run, most, &PlanLimits::default()).unwrap();
    let error = slot_moves(&run, most + 1, &PlanLimits::default()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == PlanLimits::default().max_binding), "{error}");
}

#[test]
fn rows_without_a_slot_read_nothing_and_write_nothing() {
    let mut pool = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut rows = [9.0; 6];
    gather(&pool, &[2, NO_SLOT, 0], 2, &mut rows);
    assert_eq!(rows, [5.0, 6.0, 0.0, 0.0, 1.0, 2.0]);
    scatter(&[7.0, 8.0, 9.0, 9.0], &[1, NO_SLOT], 2, &mut pool);
    assert_eq!(pool, [1.0, 2.0, 7.0, 8.0, 5.0, 6.0]);
}
