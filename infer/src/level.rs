//! What the bytes of an image stand for.

/// The value of every grey level, by channel. Training, evaluation and prediction all look pixels up here.
#[derive(Debug, Clone)]
pub struct Levels {
    channels: Vec<Channel>,
}

#[derive(Debug, Clone)]
struct Channel {
    of_byte: [f32; 256],
    mean: f32,
}

impl Levels {
    /// Normalised values, `(byte / 255 - mean) / std`, with one mean and standard deviation for each channel.
    pub fn normalised(mean: &[f32], std: &[f32]) -> Self {
        let channel = |(&mean, &std): (&f32, &f32)| Channel::new(0.0, |value| (value - mean) / std);
        Self { channels: mean.iter().zip(std).map(channel).collect() }
    }

    /// Intensities in [0, 1], `byte / 255`: black is 0 and white is 1, whatever the data set.
    pub fn intensities(mean: &[f32]) -> Self {
        Self { channels: mean.iter().map(|&mean| Channel::new(mean, |value| value)).collect() }
    }

    /// Writes an image, channels first.
    pub fn write(&self, pixels: &[u8], out: &mut [f32]) {
        let area = (pixels.len() / self.channels.len().max(1)).max(1);
        for ((out, pixels), channel) in out.chunks_mut(area).zip(pixels.chunks(area)).zip(&self.channels) {
            out.iter_mut().zip(pixels).for_each(|(out, &pixel)| *out = channel.of_byte[usize::from(pixel)]);
        }
    }

    /// The value of a black pixel of a channel.
    pub fn black(&self, channel: usize) -> f32 {
        self.channels[channel].of_byte[0]
    }

    /// The value of a channel's mean over the training images.
    pub fn mean(&self, channel: usize) -> f32 {
        self.channels[channel].mean
    }
}

impl Channel {
    /// `value` gives what stands for a byte over 255.
    fn new(mean: f32, value: impl Fn(f32) -> f32) -> Self {
        let mut of_byte = [0.0; 256];
        (0_u8..=255).for_each(|byte| of_byte[usize::from(byte)] = value(f32::from(byte) / 255.0));
        Self { of_byte, mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_hand() {
        let mut out = [0.0; 4];
        let normalised = Levels::normalised(&[0.5, 0.2], &[0.25, 0.1]);
        normalised.write(&[0, 255, 51, 255], &mut out);
        assert_eq!(out, [-2.0, 2.0, 0.0, (1.0 - 0.2) / 0.1]);
        assert_eq!((normalised.black(0), normalised.mean(1)), (-2.0, 0.0));
        let intensities = Levels::intensities(&[0.5, 0.25]);
        intensities.write(&[0, 255, 51, 102], &mut out);
        assert_eq!(out, [0.0, 1.0, 51.0 / 255.0, 102.0 / 255.0]);
        assert_eq!((intensities.black(1), intensities.mean(1)), (0.0, 0.25));
    }
}
