//! Runs that are not what was written: refused, with the run's name, and never a panic.

use super::*;
use bytes::Bytes;

use crate::base::ByteWriter;
use crate::base::{ErrorKind, Row};
use crate::format::run::{
    BlockAt, BlockWriter, IndexPart, PieceAt, RunFooter, Sequence, SequenceAt, Table,
    associated_data, encode_block_at, encode_run_trailer,
};
use crate::format::{TablesWriter, encode_record};
use crate::seal::SealedKind;
use crate::store::{Body, Store};

/// Everything that can be asked of a run; the first error.
fn ask_everything(bench: &Bench, reference: &RunReference) -> Result<usize> {
    let run = Run::open(&bench.fetcher(), reference)?;
    let mut asked = 0;
    for section in [Section::Directories, Section::Files] {
        for keyed in all(run.records(section, b""))? {
            run.row(section, keyed.row)?;
            run.lookup(section, &keyed.key)?;
            asked += 1;
        }
    }
    let chain = Chain::of_runs(vec![run.clone()]);
    for found in all(chain.entries(&Key::root()))? {
        all(chain.children(&found.key, Section::Files, None))?;
        chain.lookup(&found.key)?;
        run.row_of_origin(found.origin)?;
    }
    run.warnings()?;
    run.owners()?;
    Ok(asked)
}

#[test]
fn a_flipped_bit_in_any_byte_is_refused_or_harmless() {
    let bench = Bench::new();
    let reference = bench.run(true, |writer| {
        append_tree(writer, 3, 8);
        let mut inherited = file(7);
        inherited.origin = Some(crate::base::Origin {
            run: RunId([5; 16]),
            row: Row(3),
        });
        writer
            .append(&key("z/z"), Section::Files, &record(inherited))
            .unwrap();
        writer.warning(b"home", "is odd").unwrap();
    });
    let asked = ask_everything(&bench, &reference).unwrap();
    let reference = RunReference {
        footer: None,
        ..reference
    };
    let bytes = bench.bytes_of(&reference.id);
    let footer = bytes.len() - 16 - reference.footer_length as usize;
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        bench.memory.damage(&run_name(&reference.id), &damaged);
        match ask_everything(&bench, &reference) {
            // The trailer serves those alone who have no point.
            Ok(count) => assert!(count == asked && place >= bytes.len() - 16, "byte {place}"),
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    ErrorKind::Corrupt,
                    "byte {place} of {footer}: {error}"
                );
                assert!(
                    error.to_string().contains(&reference.id.to_string()),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_run_cut_short_is_refused() {
    let bench = Bench::new();
    let reference = bench.run(true, |writer| {
        append_tree(writer, 3, 40);
    });
    let bytes = bench.bytes_of(&reference.id);
    for length in [0, 1, 100, bytes.len() / 2] {
        bench
            .memory
            .damage(&run_name(&reference.id), &bytes[..length]);
        let error = ask_everything(&bench, &reference).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    bench.memory.lose(&run_name(&reference.id));
    let error = ask_everything(&bench, &reference).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
}

#[test]
fn a_damaged_block_costs_its_own_entries_and_no_others() {
    let bench = Bench::new();
    let reference = bench.run(false, |writer| {
        append_tree(writer, 20, 500);
    });
    let mut bytes = bench.bytes_of(&reference.id);
    // Somewhere in the blocks of files, which come first.
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    bench.memory.damage(&run_name(&reference.id), &bytes);
    let run = bench.open(&reference);
    let (_, files) = tree_keys(20, 500);
    let lost = files
        .iter()
        .filter(|key| run.lookup(Section::Files, key).is_err())
        .count();
    assert!((1..2500).contains(&lost), "{lost} of {} lost", files.len());
    assert!(all(run.records(Section::Files, b"")).is_err());
    // What precedes the damage is told before the error.
    let told = run
        .records(Section::Files, b"")
        .take_while(Result::is_ok)
        .count();
    assert!(told > 1000, "{told}");
}

/// A run whose section of files is these blocks of keys, sealed as they ought to be, whatever their order.
fn forged(bench: &Bench, blocks: &[&[&str]], lie: impl FnOnce(&mut SequenceAt)) -> RunReference {
    let run = RunId([0xfa; 16]);
    let seal = bench.repository.seal();
    let mut object = Vec::new();
    let mut part = None;
    let mut index = BlockWriter::new();
    let mut rows = 0;
    for (number, keys) in blocks.iter().enumerate() {
        let mut block = BlockWriter::new();
        let mut tables = TablesWriter::new();
        for key in *keys {
            let mut body = ByteWriter::new();
            encode_record(&TOMBSTONE, &mut tables, &mut body).unwrap();
            block
                .push(format!("\0{key}").as_bytes(), body.as_bytes())
                .unwrap();
        }
        let offset = object.len() as u64;
        let associated = associated_data(&run, Sequence::Files as u8, number as u64);
        block
            .finish_block(|plain| {
                seal.seal(
                    SealedKind::RunBlock,
                    &associated,
                    plain,
                    Compression::Off,
                    &mut object,
                )
            })
            .unwrap();
        let at = BlockAt {
            number: number as u64,
            first_row: Row(rows),
            offset,
            length: (object.len() as u64 - offset) as u32,
        };
        rows += keys.len() as u64;
        let first_key = format!("\0{:02}", number).into_bytes();
        let part = part.get_or_insert_with(|| IndexPart {
            first_key: first_key.clone(),
            first_row: Row(0),
            first_block: 0,
            offset,
            at: PieceAt::empty(),
        });
        let mut body = ByteWriter::new();
        encode_block_at(part, &at, &mut body);
        index.push(&first_key, body.as_bytes()).unwrap();
    }
    let mut part = part.unwrap();
    part.at = PieceAt::Inline(index.finish_block(Bytes::copy_from_slice));
    let mut sequence = SequenceAt {
        rows,
        blocks: blocks.len() as u64,
        offset: 0,
        length: object.len() as u64,
        index: vec![part],
    };
    lie(&mut sequence);
    let mut ids = ByteWriter::new();
    TablesWriter::new().encode(&mut ids);
    let mut sequences: [SequenceAt; 4] = Default::default();
    sequences[Sequence::Files as usize] = sequence;
    let footer = RunFooter {
        counts: Default::default(),
        sequences,
        ids: PieceAt::Inline(Bytes::copy_from_slice(ids.as_bytes())),
        owners: PieceAt::empty(),
        filters: None,
    };
    let start = object.len();
    let associated = associated_data(&run, 0, 0);
    seal.seal(
        SealedKind::RunFooter,
        &associated,
        &footer.encode(),
        Compression::Off,
        &mut object,
    )
    .unwrap();
    let footer_length = (object.len() - start) as u32;
    object.extend_from_slice(&encode_run_trailer(footer_length));
    bench
        .memory
        .put_new(&run_name(&run), Body::Bytes(&[&object]))
        .unwrap();
    RunReference {
        id: run,
        length: object.len() as u64,
        footer_length,
        origins: Vec::new(),
        footer: None,
    }
}

/// Walks the files of a forged run.
fn walk(blocks: &[&[&str]], lie: impl FnOnce(&mut SequenceAt)) -> Result<usize> {
    let bench = Bench::new();
    let reference = forged(&bench, blocks, lie);
    let run = Run::open(&bench.fetcher(), &reference)?;
    Ok(all(run.records(Section::Files, b""))?.len())
}

#[test]
fn blocks_out_of_order_rows_and_counts_that_lie_are_refused_by_name() {
    let good: &[&[&str]] = &[&["00", "00a", "00b"], &["01", "01a"], &["02"]];
    assert_eq!(walk(good, |_| ()).unwrap(), 6);
    let refused = |result: Result<usize>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&"fa".repeat(16)), "{error}");
    };
    // A block whose keys overlap the next one's, one whose first key the index does not know.
    refused(walk(&[&["00", "01"], &["01"]], |_| ()));
    refused(walk(&[&["00", "05"], &["01"]], |_| ()));
    refused(walk(&[&["00"], &["01a"]], |_| ()));
    // More rows than there are, and fewer.
    refused(walk(good, |files| files.rows += 1));
    refused(walk(good, |files| files.rows -= 1));
    // An index that is no block, and one that leads out of the run.
    refused(walk(good, |files| {
        files.index[0].at = PieceAt::Inline(Bytes::from_static(&[1, 2, 3]))
    }));
    refused(walk(good, |files| files.length -= 1));
    refused(walk(good, |files| files.length += 1 << 40));
    refused(walk(good, |files| {
        files.index[0].at = PieceAt::Apart {
            offset: 0,
            length: 50,
        };
    }));
}

#[test]
fn pieces_of_another_run_or_place_are_refused() {
    let bench = Bench::new();
    let fill = |writer: &mut RunWriter<'_>| {
        append_tree(writer, 3, 40);
    };
    let (one, other) = (bench.run(true, fill), bench.run(true, fill));
    assert_eq!(one.length, other.length);
    bench
        .memory
        .damage(&run_name(&one.id), &bench.bytes_of(&other.id));
    let error = ask_everything(&bench, &one).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_ne!(
        associated_data(&one.id, Table::Ids as u8, 0),
        associated_data(&one.id, Table::Owners as u8, 0)
    );
}
