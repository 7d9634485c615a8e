//! Parser of Redis replies. What is not as expected is left out, never a reason to stop.

use bytes::Bytes;
use redis::Value;

/// One entry of a stream.
pub(super) struct StreamEntry {
    pub(super) id: String,
    /// Names and values in turn.
    pub(super) fields: Vec<Vec<u8>>,
}

impl StreamEntry {
    pub(super) fn read(value: Value) -> Option<Self> {
        let [id, fields] = <[Value; 2]>::try_from(list(value)).ok()?;
        Some(Self { id: text(id)?, fields: list(fields).into_iter().filter_map(bytes).collect() })
    }

    /// Takes out the value of a field.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<Bytes> {
        let mut pairs = self.fields.chunks_exact_mut(2);
        pairs.find(|pair| pair[0] == name).map(|pair| std::mem::take(&mut pair[1]).into())
    }
}

/// What a read of several streams brought: names and entries.
pub(super) fn streams(value: Value) -> Vec<(String, Vec<StreamEntry>)> {
    let stream = |value: Value| {
        let [name, entries] = <[Value; 2]>::try_from(list(value)).ok()?;
        Some((text(name)?, list(entries).into_iter().filter_map(StreamEntry::read).collect()))
    };
    list(value).into_iter().filter_map(stream).collect()
}

pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

pub(super) const fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}
