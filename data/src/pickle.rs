//! A reader of pickles that builds numbers, texts, lists, dictionaries and NumPy arrays of bytes, and nothing else.
//!
//! A pickle is a program for a stack machine (Python's `pickletools` documents its opcodes). Python's own reader calls
//! whatever the program names; this one knows four names of NumPy and `_codecs.encode`, and refuses every other. It
//! executes nothing, and takes no more memory than the file has bytes, times a constant.

use std::collections::BTreeMap;

/// A value, by its place among all that the program makes.
type Id = usize;

/// Most values that one file may make.
const MOST: usize = 4_000_000;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// `None`, booleans, floating-point numbers: nothing here looks into them.
    Other,
    Int(i64),
    /// A text or bytes.
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name that may be called.
    Global(Global),
    /// The type of an array's elements.
    Dtype(Vec<u8>),
    Array(Array),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    Reconstruct,
    Ndarray,
    Dtype,
    Encode,
}

/// An array of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Array {
    /// Its sizes.
    pub(super) shape: Vec<usize>,
    /// Its elements, row-major.
    pub(super) data: Vec<u8>,
}

/// A pickled dictionary with texts as keys.
#[derive(Debug)]
pub(super) struct Dict {
    values: Vec<Value>,
    items: BTreeMap<String, Id>,
}

impl Dict {
    /// Reads a file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let (values, top) = Machine::new(bytes).run()?;
        let Value::Dict(pairs) = &values[top] else { return Err("it holds no dictionary".into()) };
        let key = |&(key, value): &(Id, Id)| match &values[key] {
            Value::Bytes(text) => Some((String::from_utf8_lossy(text).into_owned(), value)),
            _ => None,
        };
        let items = pairs.iter().filter_map(key).collect();
        Ok(Self { values, items })
    }

    fn get(&self, key: &str) -> Result<&Value, String> {
        self.items.get(key).map(|&id| &self.values[id]).ok_or_else(|| format!("it has no entry `{key}`"))
    }

    /// An array of bytes.
    pub(super) fn array(&self, key: &str) -> Result<&Array, String> {
        match self.get(key)? {
            Value::Array(array) => Ok(array),
            _ => Err(format!("its entry `{key}` is no array")),
        }
    }

    fn list(&self, key: &str) -> Result<&[Id], String> {
        match self.get(key)? {
            Value::List(items) => Ok(items),
            _ => Err(format!("its entry `{key}` is no list")),
        }
    }

    /// A list of integers.
    pub(super) fn integers(&self, key: &str) -> Result<Vec<i64>, String> {
        let integer = |&id: &Id| match self.values[id] {
            Value::Int(value) => Ok(value),
            _ => Err(format!("its entry `{key}` has something else than integers")),
        };
        self.list(key)?.iter().map(integer).collect()
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let text = |&id: &Id| match &self.values[id] {
            Value::Bytes(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            _ => Err(format!("its entry `{key}` has something else than texts")),
        };
        self.list(key)?.iter().map(text).collect()
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
    /// Bytes of all texts made.
    made: usize,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: BTreeMap::new(), made: 0 }
    }

    /// All values, and the one that the program ends with.
    fn run(mut self) -> Step<(Vec<Value>, Id)> {
        loop {
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                let top = self.pop()?;
                return Ok((self.values, top));
            }
            self.step(opcode).map_err(|problem| format!("{problem} (at byte {})", self.at))?;
        }
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            // Protocol and frames say nothing that matters here.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode),
            b'U' | b'C' | 0x8c => self.text(1),
            b'T' | b'B' | b'X' => self.text(4),
            0x8d | 0x8e => self.text(8),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or("its stack is empty")?;
                let items = self.stack.split_off(from);
                self.push(Value::Tuple(items))
            }
            b'a' | b'e' => self.append(opcode == b'e'),
            b's' | b'u' => self.set(opcode == b'u'),
            b'q' | b'r' | 0x94 => self.memorise(opcode),
            b'h' | b'j' => {
                let key = self.number(if opcode == b'h' { 1 } else { 4 })?;
                let id = *self.memo.get(&key).ok_or("it asks for a value that it has not kept")?;
                self.stack.push(id);
                Ok(())
            }
            b'c' => {
                let (module, name) = (self.line()?.to_vec(), self.line()?.to_vec());
                self.global(&module, &name)
            }
            0x93 => {
                let (name, module) = (self.pop_bytes()?, self.pop_bytes()?);
                self.global(&module, &name)
            }
            b'R' => self.call(),
            b'b' => self.build(),
            _ => Err(format!("it has the opcode 0x{opcode:02x}, which is not read here")),
        }
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("it is cut off at byte {}", self.bytes.len()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An unsigned number of some bytes, the lowest first.
    fn number(&mut self, count: usize) -> Step<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n').ok_or("a name does not end")?;
        let line = self.take(length)?;
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, value: Value) -> Step<()> {
        if let Value::Bytes(bytes) | Value::Dtype(bytes) = &value {
            self.made += bytes.len();
        }
        // What is kept may be used again and again: a small file could ask for any memory otherwise.
        if self.values.len() >= MOST || self.made > 2 * self.bytes.len() {
            return Err("it makes more than a file of its size can hold".into());
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        self.stack.pop().ok_or_else(|| "its stack is empty".to_owned())
    }

    fn pop_bytes(&mut self) -> Step<Vec<u8>> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Bytes(bytes) => Ok(bytes.clone()),
            _ => Err("a name is no text".into()),
        }
    }

    /// What is above the last mark, which goes.
    fn marked(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or("it has no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn integer(&mut self, opcode: u8) -> Step<()> {
        let value = match opcode {
            b'K' => self.number(1)? as i64,
            b'M' => self.number(2)? as i64,
            b'J' => i64::from(self.number(4)? as u32 as i32),
            _ => {
                let count = self.number(1)? as usize;
                let bytes = self.take(count)?;
                if count > 8 {
                    return Err("it has an integer of more than 64 bits".into());
                }
                let sign = bytes.last().map_or(0, |&last| if last & 0x80 == 0 { 0 } else { -1_i64 });
                bytes.iter().rev().fold(sign, |value, &byte| value << 8 | i64::from(byte))
            }
        };
        self.push(Value::Int(value))
    }

    fn text(&mut self, length: usize) -> Step<()> {
        let count = usize::try_from(self.number(length)?).unwrap_or(usize::MAX);
        let bytes = self.take(count)?.to_vec();
        self.push(Value::Bytes(bytes))
    }

    fn append(&mut self, several: bool) -> Step<()> {
        let items = if several { self.marked()? } else { vec![self.pop()?] };
        let list = *self.stack.last().ok_or("its stack is empty")?;
        match &mut self.values[list] {
            Value::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err("it appends to what is no list".into()),
        }
    }

    fn set(&mut self, several: bool) -> Step<()> {
        let items = if several {
            self.marked()?
        } else {
            let value = self.pop()?;
            vec![self.pop()?, value]
        };
        let dict = *self.stack.last().ok_or("its stack is empty")?;
        match &mut self.values[dict] {
            Value::Dict(pairs) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err("it sets entries of what is no dictionary".into()),
        }
    }

    fn memorise(&mut self, opcode: u8) -> Step<()> {
        let key = match opcode {
            b'q' => self.number(1)?,
            b'r' => self.number(4)?,
            _ => self.memo.len() as u64,
        };
        let top = *self.stack.last().ok_or("its stack is empty")?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Step<()> {
        let global = match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Global::Reconstruct,
            (b"numpy", b"ndarray") => Global::Ndarray,
            (b"numpy", b"dtype") => Global::Dtype,
            (b"_codecs", b"encode") => Global::Encode,
            _ => {
                let (module, name) = (String::from_utf8_lossy(module), String::from_utf8_lossy(name));
                return Err(format!("it asks for `{module}.{name}`, and nothing of a pickle is executed here"));
            }
        };
        self.push(Value::Global(global))
    }

    /// Calls a name with the arguments on the stack.
    fn call(&mut self) -> Step<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(global)) = (&self.values[arguments], &self.values[callable]) else {
            return Err("it calls what cannot be called".into());
        };
        let first = arguments.first().map(|&id| &self.values[id]);
        let made = match (global, first) {
            (Global::Reconstruct, Some(Value::Global(Global::Ndarray))) => Value::Array(Array::default()),
            (Global::Dtype, Some(Value::Bytes(name))) => Value::Dtype(name.clone()),
            // Python 3 writes bytes in this way for readers of Python 2: every character stands for one byte.
            (Global::Encode, Some(Value::Bytes(text))) => {
                let text = std::str::from_utf8(text).map_err(|_| "a text is no UTF-8".to_owned())?;
                let bytes: Option<Vec<u8>> =
                    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
                Value::Bytes(bytes.ok_or("a text stands for no bytes")?)
            }
            _ => return Err("it calls a name of NumPy in an unknown way".into()),
        };
        self.push(made)
    }

    /// Gives an array its content: `(version, shape, dtype, is_column_major, data)`.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let target = *self.stack.last().ok_or("its stack is empty")?;
        match &self.values[target] {
            // The byte order of single bytes.
            Value::Dtype(_) => return Ok(()),
            Value::Array(_) => {}
            _ => return Err("it gives a state to what has none".into()),
        }
        let Value::Tuple(state) = &self.values[state] else { return Err("an array's state is no tuple".into()) };
        let [_, shape, dtype, _, content] = state[..] else {
            return Err("an array's state has an unknown form".into());
        };
        let (Value::Tuple(shape), Value::Dtype(dtype), Value::Bytes(data)) =
            (&self.values[shape], &self.values[dtype], &self.values[content])
        else {
            return Err("an array's state has an unknown form".into());
        };
        if !matches!(dtype.as_slice(), b"u1" | b"|u1" | b"uint8") {
            return Err(format!("it has an array of {}, not of bytes (u1)", String::from_utf8_lossy(dtype)));
        }
        let size = |&id: &Id| match self.values[id] {
            Value::Int(size) => usize::try_from(size).ok(),
            _ => None,
        };
        let shape: Vec<usize> =
            shape.iter().map(size).collect::<Option<_>>().ok_or("an array's sizes make no sense")?;
        let count = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        if count != Some(data.len()) {
            return Err(format!("an array of sizes {shape:?} has {} bytes", data.len()));
        }
        let Value::Bytes(data) = std::mem::replace(&mut self.values[content], Value::Other) else { return Ok(()) };
        self.values[target] = Value::Array(Array { shape, data });
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `{'labels': [3, 300, -1], 'data': array([[1, 2, 3]], uint8), 'names': ['a']}` as Python 2 writes it (protocol
    /// 2).
    pub(crate) fn python2() -> Vec<u8> {
        let mut bytes =
            b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x03M\x2c\x01J\xff\xff\xff\xffeU\x04dataq\x04".to_vec();
        bytes.extend(
            b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01",
        );
        bytes.extend(b"K\x01K\x03\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
        bytes.extend(b"\x89U\x03\x01\x02\x03tbU\x05namesq\x0a]q\x0bU\x01aau.");
        bytes
    }

    #[test]
    fn lists_texts_and_arrays_are_read() {
        let dict = Dict::read(&python2()).expect("reads");
        assert_eq!(dict.integers("labels"), Ok(vec![3, 300, -1]));
        assert_eq!(dict.texts("names"), Ok(vec!["a".to_owned()]));
        assert_eq!(dict.array("data"), Ok(&Array { shape: vec![1, 3], data: vec![1, 2, 3] }));
        assert!(dict.array("labels").expect_err("a list").contains("no array") && dict.integers("nothing").is_err());
    }

    #[test]
    fn what_python_3_writes_is_read() {
        // pickle.dumps({b'data': numpy.array([7, 255], 'u1')}, protocol=2) and protocol=4, NumPy 2.
        let two = b"\x80\x02}q\x00c_codecs\nencode\nq\x01X\x04\x00\x00\x00dataq\x02X\x06\x00\x00\x00latin1q\x03\x86q\x04Rq\x05cnumpy._core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85q\x08h\x01X\x01\x00\x00\x00bq\x09h\x03\x86q\x0aRq\x0b\x87q\x0cRq\x0d(K\x01K\x02\x85q\x0ecnumpy\ndtype\nq\x0fX\x02\x00\x00\x00u1q\x10\x89\x88\x87q\x11Rq\x12(K\x03X\x01\x00\x00\x00|q\x13NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x14b\x89h\x01X\x03\x00\x00\x00\x07\xc3\xbfq\x15h\x03\x86q\x16Rq\x17tq\x18bs.";
        let dict = Dict::read(two).expect("reads");
        assert_eq!(dict.array("data"), Ok(&Array { shape: vec![2], data: vec![7, 255] }));
    }

    #[test]
    fn nothing_is_called() {
        let error = Dict::read(b"cos\nsystem\n(S'true'\ntR.").expect_err("refused");
        assert!(error.contains("os.system") && error.contains("nothing of a pickle is executed"), "{error}");
        assert!(Dict::read(b"\x80\x04\x8c\x02os\x8c\x06system\x93.").expect_err("refused").contains("os.system"));
    }

    #[test]
    fn cut_and_twisted_pickles_are_errors() {
        let whole = python2();
        for length in 0..whole.len() {
            assert!(Dict::read(&whole[..length]).is_err(), "{length} bytes");
        }
        for wrong in [
            b"e.".as_slice(),
            b"]K\x01e.",
            b"K\x01K\x02s.",
            b"t.",
            b"\x87.",
            b"h\x07.",
            b"K\x01K\x01R.",
            b"K\x01K\x01b.",
            b"K\x01.",
        ] {
            assert!(Dict::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
