//! A short list without an allocator.

/// Up to `N` values.
#[derive(PartialEq)]
pub(crate) struct List<T, const N: usize> {
    values: [Option<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    pub(crate) const fn new() -> Self {
        Self { values: [None; N], len: 0 }
    }

    /// `false` if there is no room.
    pub(crate) fn push(&mut self, value: T) -> bool {
        let free = self.values.get_mut(self.len);
        self.len += usize::from(free.is_some());
        free.map(|free| *free = Some(value)).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_more_room_than_there_is() {
        let mut list = List::<u8, 2>::new();
        assert_eq!([1, 2, 3].map(|value| list.push(value)), [true, true, false]);
        assert_eq!((list.len(), list.iter().copied().collect::<Vec<_>>()), (2, vec![1, 2]));
    }
}
