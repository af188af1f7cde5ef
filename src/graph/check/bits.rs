//! Sets of nodes.

/// A set of nodes.
#[derive(Clone, Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(width: usize) -> Self {
        Self(vec![0; width.div_ceil(64)])
    }

    pub(super) fn of(width: usize, members: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = Self::new(width);
        for member in members {
            bits.set(member);
        }
        bits
    }

    /// Adds a member; whether it is new.
    pub(super) fn set(&mut self, member: usize) -> bool {
        let Some(word) = self.0.get_mut(member / 64) else { return false };
        let before = *word;
        *word |= 1 << (member % 64);
        *word != before
    }

    pub(super) fn clear(&mut self, member: usize) {
        if let Some(word) = self.0.get_mut(member / 64) {
            *word &= !(1 << (member % 64));
        }
    }

    pub(super) fn has(&self, member: usize) -> bool {
        self.0.get(member / 64).is_some_and(|word| word >> (member % 64) & 1 == 1)
    }

    /// Adds all members of another set; whether any is new.
    pub(super) fn add(&mut self, other: &Self) -> bool {
        let mut grew = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            grew |= *more & !*word != 0;
            *word |= more;
        }
        grew
    }

    /// Whether a member of another set, other than `but`, is missing.
    pub(super) fn lacks(&self, other: &Self, but: usize) -> bool {
        self.0.iter().zip(&other.0).enumerate().any(|(index, (word, more))| {
            let spared = if but / 64 == index { 1 << (but % 64) } else { 0 };
            more & !word & !spared != 0
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many members it has room for, rounded up.
    pub(super) fn width(&self) -> usize {
        self.0.len() * 64
    }

    /// Takes out all members of another set.
    pub(super) fn remove(&mut self, other: &Self) {
        for (word, less) in self.0.iter_mut().zip(&other.0) {
            *word &= !less;
        }
    }

    /// The members, the smallest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }
}
