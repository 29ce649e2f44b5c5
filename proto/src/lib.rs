//! Wire protocol of bloctrain: services, messages and their conversions.
