//! Inputs that a network reads beside its first.

use std::borrow::Cow;

use super::input::Input;

/// An input by its name, for a network that reads several ([`Network::inputs`](crate::Network::inputs)).
#[derive(Clone, Debug)]
pub struct NamedInput<'a> {
    name: Cow<'a, str>,
    numbers: NamedNumbers<'a>,
    lengths: Option<Cow<'a, [usize]>>,
}

#[derive(Clone, Debug)]
enum NamedNumbers<'a> {
    Tokens(Cow<'a, [u32]>, [usize; 2]),
    Features(Cow<'a, [f32]>, [usize; 3]),
    Rows(Cow<'a, [f32]>, [usize; 2]),
}

impl<'a> NamedInput<'a> {
    /// Token ids of shape `[T, B]` (`[B, T]` with `batch_first`).
    #[must_use]
    pub fn tokens(name: impl Into<Cow<'a, str>>, ids: impl Into<Cow<'a, [u32]>>, shape: [usize; 2]) -> Self {
        Self { name: name.into(), numbers: NamedNumbers::Tokens(ids.into(), shape), lengths: None }
    }

    /// Vectors of shape `[T, B, I]` (`[B, T, I]` with `batch_first`).
    #[must_use]
    pub fn features(name: impl Into<Cow<'a, str>>, values: impl Into<Cow<'a, [f32]>>, shape: [usize; 3]) -> Self {
        Self { name: name.into(), numbers: NamedNumbers::Features(values.into(), shape), lengths: None }
    }

    /// A vector for each batch row, `[B, I]`.
    #[must_use]
    pub fn rows(name: impl Into<Cow<'a, str>>, values: impl Into<Cow<'a, [f32]>>, shape: [usize; 2]) -> Self {
        Self { name: name.into(), numbers: NamedNumbers::Rows(values.into(), shape), lengths: None }
    }

    /// As [`Input::with_lengths`], of the timesteps of this input.
    #[must_use]
    pub fn with_lengths(mut self, lengths: impl Into<Cow<'a, [usize]>>) -> Self {
        self.lengths = Some(lengths.into());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as an input without a name.
    pub(crate) fn as_input(&self) -> Input<'_> {
        let input = match &self.numbers {
            NamedNumbers::Tokens(ids, shape) => Input::tokens(ids, *shape),
            NamedNumbers::Features(values, shape) => Input::features(values, *shape),
            NamedNumbers::Rows(values, shape) => Input::rows(values, *shape),
        };
        match &self.lengths {
            Some(lengths) => input.with_lengths(lengths),
            None => input,
        }
    }
}
