//! Records: the bodies of a run's entries.
#![no_main]

use bygone::base::{ByteReader, ByteWriter};
use bygone::format::run::Block;
use bygone::format::{Tables, TablesWriter, decode_record, encode_record};
use bygone_fuzz::{near, within_input};
use libfuzzer_sys::fuzz_target;

const RECORDS: &[u8] = include_bytes!("../../golden/records");
const TABLES: &[u8] = include_bytes!("../../golden/tables");

/// The body that the fuzzer's first byte picks from the golden ones.
fn valid_body(choice: u8) -> Vec<u8> {
    let block = Block::open(RECORDS.to_vec().into()).expect("the golden file is a block");
    let index = usize::from(choice) % block.count();
    let mut cursor = block.seek_index(index).expect("it has this entry");
    cursor.advance().expect("it has this entry");
    cursor.body().to_vec()
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let tables = Tables::decode(&mut ByteReader::new("tables", TABLES)).expect("the golden file");
    let body = near(&valid_body(*choice), data);
    let record = within_input(&body, || {
        decode_record(&mut ByteReader::new("an entry", &body), &tables)
    });
    if let Ok(record) = record {
        let mut writer = TablesWriter::new();
        let mut again = ByteWriter::new();
        encode_record(&record, &mut writer, &mut again).expect("what was read can be written");
        let read = decode_record(
            &mut ByteReader::new("an entry", again.as_bytes()),
            &writer.to_tables(),
        );
        assert_eq!(read.ok(), Some(record));
    }
});
