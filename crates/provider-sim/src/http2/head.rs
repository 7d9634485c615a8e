//! HPACK header blocks: read through a library, written by hand as literals.

use httlib_hpack::Decoder;

use super::frame::ProtocolError;
use super::{Reply, Request};

/// HPACK decoder of one connection, with its header table.
#[derive(Debug, Default)]
pub(super) struct HeaderDecoder {
    decoder: Decoder<'static>,
    fields: Vec<(Vec<u8>, Vec<u8>, u8)>,
}

impl HeaderDecoder {
    /// Reads one block into a request without a body.
    pub(super) fn read(&mut self, mut block: Vec<u8>, request: &mut Request) -> Result<(), ProtocolError> {
        self.fields.clear();
        self.decoder
            .decode(&mut block, &mut self.fields)
            .map_err(|_| ProtocolError("unreadable header block"))?;
        for (name, value, _) in self.fields.drain(..) {
            let (Ok(name), Ok(value)) = (String::from_utf8(name), String::from_utf8(value)) else {
                return Err(ProtocolError("header is not text"));
            };
            match name.as_str() {
                ":method" => request.method = value,
                ":path" => request.path = value,
                pseudo if pseudo.starts_with(':') => {}
                _ => request.headers.push((name, value)),
            }
        }
        Ok(())
    }
}

/// Writes the header block of a reply (RFC 7541, sections 6.1 and 6.2.2).
pub(super) fn write(reply: &Reply) -> Vec<u8> {
    let mut block = Vec::with_capacity(64);
    match reply.status {
        200 => block.push(0x88),
        400 => block.push(0x8c),
        404 => block.push(0x8d),
        500 => block.push(0x8e),
        other => {
            block.push(0x08);
            put_text(&mut block, other.to_string().as_bytes());
        }
    }
    for (name, value) in &reply.headers {
        block.push(0x00);
        put_text(&mut block, name.as_bytes());
        put_text(&mut block, value.as_bytes());
    }
    block
}

/// A text without Huffman coding; lengths of 127 and more take further bytes (RFC 7541, 5.1).
fn put_text(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(low_byte(text.len()));
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push(low_byte(rest % 128) | 0x80);
            rest /= 128;
        }
        block.push(low_byte(rest));
    }
    block.extend_from_slice(text);
}

const fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}
