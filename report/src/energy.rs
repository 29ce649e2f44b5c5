//! What inference would cost in energy, by a model that says all of its assumptions.
//!
//! Operations are counted ([`bloctrain_shared::compute`]); the constants are of a 45 nm process at 0.9 V in 32-bit
//! floating point: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014. An addition
//! takes 0.9 pJ, a multiplication 3.7 pJ, so a multiply-accumulate 4.6 pJ; an access of 8 bytes takes 100 pJ in a cache
//! of 1 MB, 10 pJ in one of 8 KB, and 1.3 nJ to 2.6 nJ in DRAM.

use bloctrain_shared::compute::Operations;

/// Constants of the energy model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Picojoules of a synaptic operation: an addition.
    pub synop: f64,
    /// Picojoules of a multiply-accumulate.
    pub mac: f64,
    /// Picojoules of a byte read or written on the chip.
    pub sram: f64,
    /// Picojoules of a byte read or written outside of it.
    pub dram: f64,
    /// Bytes that a synaptic operation moves: a weight is read, a membrane read and written.
    pub synop_bytes: f64,
    /// Bytes that a multiply-accumulate moves: a weight and an input are read, the sum stays in a register.
    pub mac_bytes: f64,
}

/// Where the constants come from.
pub(crate) const SOURCE: &str = "M. Horowitz, \"Computing's energy problem (and what we can do about it)\", ISSCC \
2014: 45 nm, 0.9 V, 32-bit floating point; an addition 0.9 pJ, a multiplication 3.7 pJ, 8 bytes of a cache of 1 MB \
100 pJ, 8 bytes of DRAM 1.3 nJ at least";

impl Default for Energy {
    fn default() -> Self {
        Self { synop: 0.9, mac: 4.6, sram: 12.5, dram: 162.5, synop_bytes: 12.0, mac_bytes: 8.0 }
    }
}

/// A constant that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnergyError(String);

impl std::fmt::Display for EnergyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EnergyError {}

/// Where operations find their operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Not counted.
    Free,
    /// On the chip.
    Chip,
    /// Outside of it.
    External,
}

impl Energy {
    /// Names of the constants, their values, units and meanings.
    pub(crate) fn constants(&self) -> [(&'static str, f64, &'static str, &'static str); 6] {
        [
            ("synop", self.synop, "pJ", "a synaptic operation: one addition"),
            ("mac", self.mac, "pJ", "a multiply-accumulate"),
            ("sram", self.sram, "pJ per byte", "memory on the chip, a cache of 1 MB"),
            ("dram", self.dram, "pJ per byte", "memory outside of the chip"),
            (
                "synop_bytes",
                self.synop_bytes,
                "bytes",
                "moved by a synaptic operation: a weight in, a membrane in and out",
            ),
            ("mac_bytes", self.mac_bytes, "bytes", "moved by a multiply-accumulate: a weight and an input in"),
        ]
    }

    /// Sets constants: `synop=0.1,mac=1.5`.
    ///
    /// # Errors
    /// Says what is wrong, and which constants there are.
    pub fn parse(text: &str) -> Result<Self, EnergyError> {
        let mut energy = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value: f64 =
                value.trim().parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0).ok_or_else(
                    || {
                        EnergyError(format!(
                            "`{pair}` sets nothing: give a constant and a number of at least 0, such as synop=0.9"
                        ))
                    },
                )?;
            let constant = match name.trim() {
                "synop" => &mut energy.synop,
                "mac" => &mut energy.mac,
                "sram" => &mut energy.sram,
                "dram" => &mut energy.dram,
                "synop_bytes" => &mut energy.synop_bytes,
                "mac_bytes" => &mut energy.mac_bytes,
                other => {
                    let names = energy.constants().map(|(name, ..)| name).join(", ");
                    return Err(EnergyError(format!("there is no constant `{other}`; there are {names}")));
                }
            };
            *constant = value;
        }
        Ok(energy)
    }

    /// Picojoules of some operations.
    pub(crate) fn of(&self, operations: Operations, memory: Memory) -> f64 {
        let byte = match memory {
            Memory::Free => 0.0,
            Memory::Chip => self.sram,
            Memory::External => self.dram,
        };
        operations.synops * (self.synop + self.synop_bytes * byte)
            + operations.macs * (self.mac + self.mac_bytes * byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_by_hand() {
        let operations = Operations { macs: 10.0, synops: 100.0 };
        let energy = Energy::default();
        assert_eq!(energy.of(operations, Memory::Free), 136.0);
        assert_eq!(energy.of(operations, Memory::Chip), 100.0 * 150.9 + 10.0 * 104.6);
        let own = Energy::parse("synop=0.5, sram=1").expect("two constants");
        assert_eq!((own.synop, own.sram, own.mac), (0.5, 1.0, 4.6));
        for (wrong, says) in
            [("synop", "`synop` sets nothing"), ("mac=-1", "at least 0"), ("joules=1", "there are synop, mac")]
        {
            assert!(Energy::parse(wrong).expect_err(wrong).to_string().contains(says), "{wrong}");
        }
    }
}
