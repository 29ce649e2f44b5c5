//! Arrow IPC files whose lengths are held against the file before anything is reserved for them: arrow's own reader
//! takes them as they are.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, Schema};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes of the footer's length and of the magic that follows it.
const TRAILER: usize = 10;

/// Bytes before the flat buffer of a message: a marker and its length.
const PREFIX: usize = 8;

/// Bytes in front of a compressed buffer: its length when it is not compressed.
const LENGTH: usize = 8;

fn wrong(problem: &str) -> ArrowError {
    ArrowError::ParseError(problem.to_owned())
}

/// Reads a file. `check` sees its schema first and answers how many bytes a column of a record batch may have; `each`
/// gets the batches in order.
///
/// # Errors
/// When it is no such file, a length in it contradicts another, or `check` or `each` refuses.
pub(crate) fn read(
    bytes: Bytes,
    check: impl FnOnce(&Schema) -> Result<usize, ArrowError>,
    mut each: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    let buffer = Buffer::from(bytes);
    let end = buffer.len().checked_sub(TRAILER).ok_or_else(|| wrong("it is cut off"))?;
    let trailer = buffer[end..].try_into().map_err(|_| wrong("it is cut off"))?;
    let start = end.checked_sub(read_footer_length(trailer)?).ok_or_else(|| wrong("its footer is cut off"))?;
    let footer = root_as_footer(&buffer[start..end]).map_err(|error| wrong(&error.to_string()))?;
    let schema = try_fb_to_schema(footer.schema().ok_or_else(|| wrong("it has no schema"))?)?;
    let most = check(&schema)?;
    if footer.dictionaries().is_some_and(|dictionaries| !dictionaries.is_empty()) {
        return Err(wrong("it has dictionaries"));
    }
    let decoder = FileDecoder::new(Arc::new(schema), footer.version());
    for block in footer.recordBatches().into_iter().flatten() {
        let data = part(&buffer, block)?;
        check_lengths(&data, block, most)?;
        let batch = decoder.read_record_batch(block, &data)?.ok_or_else(|| wrong("a message is no record batch"))?;
        each(&batch)?;
    }
    Ok(())
}

/// The bytes of a message and its body.
fn part(buffer: &Buffer, block: &Block) -> Result<Buffer, ArrowError> {
    let outside = || wrong("a record batch is outside of it");
    let number = |number: i64| usize::try_from(number).map_err(|_| outside());
    let (start, head, body) =
        (number(block.offset())?, number(block.metaDataLength().into())?, number(block.bodyLength())?);
    let length = head
        .checked_add(body)
        .filter(|length| head >= PREFIX && start.checked_add(*length).is_some_and(|end| end <= buffer.len()));
    Ok(buffer.slice_with_length(start, length.ok_or_else(outside)?))
}

/// Every buffer of a record batch is inside its body, and says that it has at most so many bytes when it is not
/// compressed.
fn check_lengths(data: &Buffer, block: &Block, most: usize) -> Result<(), ArrowError> {
    let head = usize::try_from(block.metaDataLength()).unwrap_or_default();
    let message = root_as_message(&data[PREFIX..head]).map_err(|error| wrong(&error.to_string()))?;
    let batch = message.header_as_record_batch().ok_or_else(|| wrong("a message is no record batch"))?;
    let body = &data[head..];
    for buffer in batch.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let bytes =
            range.and_then(|range| body.get(range)).ok_or_else(|| wrong("a column is outside of its record batch"))?;
        let length = bytes.first_chunk::<LENGTH>().map_or(0, |length| i64::from_le_bytes(*length));
        // Minus one stands for a buffer that is not compressed.
        if length < -1 || usize::try_from(length).is_ok_and(|length| length > most) {
            return Err(wrong("a column is longer than its samples"));
        }
    }
    Ok(())
}
