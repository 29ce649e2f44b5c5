//! What the numbers of a value are.

/// What the numbers of a value are, by which kernels, costs and memory differ.
///
/// Who decides by it matches all of it, so that a layer that emits other numbers does not pass for one of these
/// unnoticed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content {
    /// Zeros and ones over time: one bit each, and a one costs as many additions as weights see it.
    Spikes,
    /// Whole multiples of one unit over time, in so many binary digits: averages of spikes over windows, and what a
    /// dropout leaves of spikes.
    Counts {
        /// Digits of the largest number, at least 1.
        digits: usize,
        /// What one spike is worth.
        unit: f32,
    },
    /// Any numbers, the same at every step: images, and what poolings and dropouts make of them.
    Fractions,
}

impl Content {
    /// Averages over windows of so many values. The average of one value is the value.
    pub(super) fn averaged(self, window: usize) -> Self {
        let over = |digits: usize, unit: f32| {
            let most = ((1_usize << digits) - 1) * window;
            Self::Counts { digits: (usize::BITS - most.leading_zeros()) as usize, unit: unit / window as f32 }
        };
        match self {
            _ if window == 1 => self,
            Self::Spikes => over(1, 1.0),
            Self::Counts { digits, unit } => over(digits, unit),
            Self::Fractions => Self::Fractions,
        }
    }

    /// The same with a share `p` of them made zero, and the others larger to make up for it.
    pub(super) fn thinned(self, p: f32) -> Self {
        let scale = 1.0 / (1.0 - p);
        match self {
            Self::Spikes => Self::Counts { digits: 1, unit: scale },
            Self::Counts { digits, unit } => Self::Counts { digits, unit: unit * scale },
            Self::Fractions => Self::Fractions,
        }
    }

    /// Whether there is one map for all time steps.
    pub fn is_constant(self) -> bool {
        match self {
            Self::Spikes | Self::Counts { .. } => false,
            Self::Fractions => true,
        }
    }

    /// Bits that hold one number, where they are whole numbers.
    pub fn digits(self) -> Option<usize> {
        match self {
            Self::Spikes => Some(1),
            Self::Counts { digits, .. } => Some(digits),
            Self::Fractions => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_by_hand() {
        // Four spikes are 0 to 4; four of these are 0 to 28, as the largest number of 3 digits is 7.
        let once = Content::Spikes.averaged(4);
        assert_eq!(
            (once, once.averaged(4)),
            (Content::Counts { digits: 3, unit: 0.25 }, Content::Counts { digits: 5, unit: 0.0625 })
        );
        assert_eq!(Content::Spikes.averaged(1), Content::Spikes);
        assert_eq!(Content::Spikes.thinned(0.5), Content::Counts { digits: 1, unit: 2.0 });
        assert_eq!(Content::Fractions.thinned(0.5).averaged(9), Content::Fractions);
        assert_eq!([once.digits(), Content::Fractions.digits()], [Some(3), None]);
    }
}
