//! Stored objects, and who names which.
//!
//! What a task reads and what it made are lists of objects. Nobody writes such a list by hand: a type names what its
//! fields name (`names!`), so a new field does not compile before it is known whether it names any.

use crate::Digest;
use crate::label::LabelMap;
use crate::metric::Confusion;
use crate::summary::{CacheSize, Summary};
use serde::{Deserialize, Serialize};

/// A stored object with the digest that its content must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Key below the store's root.
    pub key: String,
    /// Digest of the content, verified on every read.
    pub digest: Digest,
    /// Size of the content.
    pub bytes: u64,
}

/// What may name stored objects.
pub trait Names {
    /// Calls with every object that it names, in the order of its fields.
    fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a ObjectRef));

    /// All of them.
    fn objects(&self) -> Vec<&ObjectRef> {
        let mut objects = Vec::new();
        self.each_object(&mut |object| objects.push(object));
        objects
    }
}

/// The type names what its fields name, all of which are given: one that is forgotten does not compile.
macro_rules! names {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::object::Names for $type {
            fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a $crate::object::ObjectRef)) {
                let Self { $($field),+ } = self;
                $($crate::object::Names::each_object($field, see);)+
            }
        }
    };
}
pub(crate) use names;

/// These types name no object, whatever they hold.
macro_rules! nameless {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::object::Names for $type {
            fn each_object<'a>(&'a self, _: &mut dyn FnMut(&'a $crate::object::ObjectRef)) {}
        })+
    };
}
pub(crate) use nameless;

nameless!(bool, u32, u64, usize, f64, LabelMap, Confusion, CacheSize, Summary);

impl Names for ObjectRef {
    fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a ObjectRef)) {
        see(self);
    }
}

impl<T: Names> Names for Option<T> {
    fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a ObjectRef)) {
        self.iter().for_each(|inner| inner.each_object(see));
    }
}

impl<T: Names> Names for Vec<T> {
    fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a ObjectRef)) {
        self.iter().for_each(|item| item.each_object(see));
    }
}

impl<T: Names> Names for Box<T> {
    fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a ObjectRef)) {
        self.as_ref().each_object(see);
    }
}
