//! Writes a run: entries in, one object out.

use crate::base::{ByteWriter, Error, ErrorKind, Key, Origin, Result, Row, RunId};
use crate::format::run::{
    Counts, Filter, FilterPart, OriginKey, Owner, Owners, RunFooter, Sequence, SequenceAt, Table,
    associated_data, encode_origin_row, encode_run_trailer, encode_warning,
};
use crate::format::{
    Entry, FOOTER_IN_POINT_BYTES_MAX, FileType, Record, RunReference, Section, TablesWriter,
    encode_record, run_name,
};
use crate::repo::Repository;
use crate::seal::SealedKind;
use crate::store::Body;

use super::blocks_writer::{BlocksWriter, FinishedBlocks, Sealer};
use super::filter_writer::FilterWriter;
use super::origin_sorter::OriginSorter;
use super::spill::{Gathered, Spill};

/// Writes a new run. What it gathers is in memory up to some 8 MiB for each part of the run, and beyond that in
/// temporary files. Dropped before it is finished, it leaves nothing.
pub struct RunWriter<'a> {
    sealer: Sealer<'a>,
    directories: BlocksWriter<'a>,
    files: BlocksWriter<'a>,
    warnings: BlocksWriter<'a>,
    origins: OriginSorter,
    filters: Option<[FilterWriter<'a>; 4]>,
    tables: TablesWriter,
    owners: Owners,
    counts: Counts,
    body: ByteWriter,
}

impl<'a> RunWriter<'a> {
    /// A run without an entry, of a new id. A base run needs no filters: they would say yes to all that is asked.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn create(repository: &'a Repository, filters: bool) -> Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot make a new id: {error}"))
        })?;
        let sealer = Sealer {
            repository,
            run: RunId(id),
        };
        let blocks = |sequence| BlocksWriter::new(sealer, sequence);
        Ok(Self {
            sealer,
            directories: blocks(Sequence::Directories),
            files: blocks(Sequence::Files),
            warnings: blocks(Sequence::Warnings),
            origins: OriginSorter::new(),
            filters: filters.then(|| Filter::ALL.map(|filter| FilterWriter::new(sealer, filter))),
            tables: TablesWriter::new(),
            owners: Owners::default(),
            counts: Counts::default(),
            body: ByteWriter::new(),
        })
    }

    /// The run's id, by which its own rows are origins.
    pub fn id(&self) -> RunId {
        self.sealer.run
    }

    /// The row that the next record of a section gets.
    pub fn next_row(&self, section: Section) -> Row {
        match section {
            Section::Directories => self.directories.next_row(),
            Section::Files => self.files.next_row(),
        }
    }

    /// What has been appended so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Appends what the run records of a key in one section. Keys rise within each section; an entry without an
    /// origin has this very row for it. Returns the row.
    ///
    /// # Errors
    /// Failed, if the key does not sort after those before it, or the entry is of another section; usage, if it is
    /// beyond the format's limits, after which more can be appended; else those of sealing and of temporary files.
    pub fn append(&mut self, key: &Key, section: Section, record: &Record) -> Result<Row> {
        self.body.clear();
        encode_record(record, &mut self.tables, &mut self.body)?;
        if let Record::Entry(entry) = record
            && entry.metadata.file_type.section() != section
        {
            return Err(Error::new(
                ErrorKind::Failed,
                format!("{key} would be recorded in the section of other types than its own"),
            ));
        }
        let blocks = match section {
            Section::Directories => &mut self.directories,
            Section::Files => &mut self.files,
        };
        let row = blocks.push(key.as_bytes(), self.body.as_bytes())?;
        self.count(section, record);
        self.learn_key(key, section)?;
        if let (Record::Entry(entry), Section::Files) = (record, section) {
            self.learn_origins(entry, row)?;
        }
        Ok(row)
    }

    /// Learns an owner's name.
    pub fn owner(&mut self, owner: &Owner) {
        self.owners.insert(owner);
    }

    /// Records what the backup warned of, and at which path, from the root and without a slash before it.
    ///
    /// # Errors
    /// Those of sealing and of temporary files.
    pub fn warning(&mut self, path: &[u8], message: &str) -> Result<()> {
        self.body.clear();
        encode_warning(path, message, &mut self.body);
        let number = self.warnings.next_row().0.to_be_bytes();
        self.warnings.push(&number, self.body.as_bytes())?;
        Ok(())
    }

    /// Writes the object. A run without an entry is one, too.
    ///
    /// # Errors
    /// Those of sealing, of temporary files and of the store.
    pub fn finish(mut self) -> Result<RunReference> {
        let sealer = self.sealer;
        let mut object = Spill::new();
        // Files come first, being most: the others are appended to their bytes.
        let files = self.files.finish_blocks(&mut object)?;
        let directories = self.directories.finish_blocks(&mut object)?;
        let origins = write_origins(sealer, self.origins, &mut object)?;
        let warnings = self.warnings.finish_blocks(&mut object)?;
        let filters = self
            .filters
            .map(|filters| write_filters(filters, &mut object))
            .transpose()?;
        let owners = self.owners.encode();
        let owners = sealer.place(
            SealedKind::RunTable,
            Table::Owners as u8,
            0,
            &owners,
            &mut object,
        )?;
        self.body.clear();
        self.tables.encode(&mut self.body);
        let ids = sealer.place(
            SealedKind::RunTable,
            Table::Ids as u8,
            0,
            self.body.as_bytes(),
            &mut object,
        )?;
        // In the order of the sequences' numbers, and last, being asked for first.
        let mut sequences: [SequenceAt; 4] = Default::default();
        for (at, blocks) in sequences
            .iter_mut()
            .zip([directories, files, origins, warnings])
        {
            *at = blocks.finish_index(sealer, &mut object)?;
        }
        let footer = RunFooter {
            counts: self.counts,
            sequences,
            ids,
            owners,
            filters,
        };
        let mut runs = self.tables.to_tables().runs().to_vec();
        runs.retain(|run| *run != sealer.run);
        write_object(sealer, &footer, runs, object)
    }

    fn count(&mut self, section: Section, record: &Record) {
        let counts = &mut self.counts;
        let (records, tombstones) = match section {
            Section::Directories => (&mut counts.directories, &mut counts.directory_tombstones),
            Section::Files => (&mut counts.files, &mut counts.file_tombstones),
        };
        *records += 1;
        match record {
            Record::Tombstone { .. } => *tombstones += 1,
            Record::Entry(entry) => {
                let metadata = &entry.metadata;
                let is_linked = metadata.file_type != FileType::Directory && metadata.links > 1;
                counts.linked += u64::from(is_linked);
                counts.with_xattrs += u64::from(!metadata.xattrs.is_empty());
            }
        }
    }

    fn learn_key(&mut self, key: &Key, section: Section) -> Result<()> {
        let Some(filters) = &mut self.filters else {
            return Ok(());
        };
        filters[Filter::of_keys(section) as usize].insert(key.as_bytes())?;
        if key.is_root() {
            return Ok(());
        }
        let parent = &key.as_bytes()[..key.as_bytes().len() - key.name().len()];
        filters[Filter::of_parents(section) as usize].insert(parent)
    }

    /// Rows of other runs that are found here: by an inherited origin, or by a group's first member that is not here.
    fn learn_origins(&mut self, entry: &Entry, row: Row) -> Result<()> {
        for origin in [entry.origin, entry.group].into_iter().flatten() {
            let Origin {
                run,
                row: origin_row,
            } = origin;
            if run != self.sealer.run {
                let key = OriginKey {
                    run: self.tables.run(run)?,
                    row: origin_row,
                };
                self.origins.push(key, row)?;
            }
        }
        Ok(())
    }
}

fn write_origins(
    sealer: Sealer<'_>,
    origins: OriginSorter,
    object: &mut Spill,
) -> Result<FinishedBlocks> {
    let mut blocks = BlocksWriter::new(sealer, Sequence::Origins);
    let mut body = ByteWriter::new();
    origins.finish(|key, row| {
        body.clear();
        encode_origin_row(row, &mut body);
        blocks.push(&key.to_bytes(), body.as_bytes()).map(|_| ())
    })?;
    blocks.finish_blocks(object)
}

fn write_filters(
    filters: [FilterWriter<'_>; 4],
    object: &mut Spill,
) -> Result<[Vec<FilterPart>; 4]> {
    let mut parts: [Vec<FilterPart>; 4] = Default::default();
    for (parts, filter) in parts.iter_mut().zip(filters) {
        *parts = filter.finish(object)?;
    }
    Ok(parts)
}

/// Appends footer and trailer and puts the object.
fn write_object(
    sealer: Sealer<'_>,
    footer: &RunFooter,
    origins: Vec<RunId>,
    mut object: Spill,
) -> Result<RunReference> {
    let repository = sealer.repository;
    let mut sealed = Vec::new();
    repository.seal().seal(
        SealedKind::RunFooter,
        &associated_data(&sealer.run, 0, 0),
        &footer.encode(),
        repository.config().compression,
        &mut sealed,
    )?;
    let footer_length = u32::try_from(sealed.len()).map_err(|_| {
        Error::new(
            ErrorKind::Failed,
            format!("a run's footer would have {} bytes", sealed.len()),
        )
    })?;
    object.append_with(|bytes| {
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&encode_run_trailer(footer_length));
        Ok(())
    })?;
    let length = object.length();
    let name = run_name(&sealer.run);
    match object.finish()? {
        Gathered::Memory(bytes) => repository.store().put_new(&name, Body::Bytes(&[bytes]))?,
        Gathered::File(file) => repository.store().put_new(&name, Body::File(file))?,
    }
    Ok(RunReference {
        id: sealer.run,
        length,
        footer_length,
        origins,
        footer: Some(sealed).filter(|sealed| sealed.len() <= FOOTER_IN_POINT_BYTES_MAX),
    })
}
