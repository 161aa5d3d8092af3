//! The regions of a session besides the first: collected part by part, then the worker's.

use std::collections::HashMap;

use virtio_spec::{control::Status, limits};

use crate::supervisor::extents::Backing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Parts are still to come.
    Collecting,
    /// The worker has been told to map it.
    Mapping,
    /// The worker has mapped it.
    Mapped,
    /// The worker has been told to unmap it.
    Unmapping,
}

#[derive(Debug)]
struct Region {
    phase: Phase,
    address: u64,
    length: u64,
    read_only: bool,
    covered: u64,
    extents: u32,
    backing: Backing,
}

/// A part of a region, as a MAP request brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) region: u32,
    pub(crate) read_only: bool,
    pub(crate) address: u64,
    pub(crate) length: u64,
    /// Extents, as the driver counts them.
    pub(crate) extents: u32,
    /// Bytes of them.
    pub(crate) bytes: u64,
}

/// A region whose parts are all there.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) address: u64,
    pub(crate) length: u64,
    pub(crate) read_only: bool,
    pub(crate) backing: Backing,
}

/// Who has to do something so that a region goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmap {
    /// Nobody: the worker does not know of it yet.
    Nothing,
    /// The worker.
    ByWorker,
}

/// A session's regions, and what they take of its limits.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    by_number: HashMap<u32, Region>,
    extents: u32,
    pinned: u64,
}

impl Regions {
    /// Counts region 0, which is not a region of this table.
    pub(crate) fn count_first(&mut self, length: u64, extents: u32) {
        self.pinned = self.pinned.saturating_add(length);
        self.extents = self.extents.saturating_add(extents);
    }

    /// Guest memory that is pinned, in bytes.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Adds a part, whose memory `add` appends. `true`: the region is complete. A part that is refused takes the parts
    /// before it along.
    pub(crate) fn collect(
        &mut self,
        part: &Part,
        add: impl FnOnce(&mut Backing) -> Result<u64, Status>,
    ) -> Result<bool, Status> {
        let result = self.try_collect(part, add);
        if result.is_err() {
            self.forget_parts(part.region);
        }
        result
    }

    /// Forgets a region of which parts are still to come.
    pub(crate) fn forget_parts(&mut self, number: u32) {
        if self.by_number.get(&number).is_some_and(|region| region.phase == Phase::Collecting) {
            self.forget(number);
        }
    }

    fn try_collect(
        &mut self,
        part: &Part,
        add: impl FnOnce(&mut Backing) -> Result<u64, Status>,
    ) -> Result<bool, Status> {
        let extents =
            self.extents.checked_add(part.extents).filter(|extents| *extents <= limits::MAX_EXTENTS);
        let extents = extents.ok_or(Status::Limit)?;
        let most = usize::try_from(limits::MAX_REGIONS).unwrap_or(usize::MAX);
        if self.by_number.len() >= most && !self.by_number.contains_key(&part.region) {
            return Err(Status::Limit);
        }
        let region = self.by_number.entry(part.region).or_insert_with(|| Region {
            phase: Phase::Collecting,
            address: part.address,
            length: part.length,
            read_only: part.read_only,
            covered: 0,
            extents: 0,
            backing: Backing::default(),
        });
        let same = region.phase == Phase::Collecting
            && region.address == part.address
            && region.length == part.length
            && region.read_only == part.read_only;
        let covered = region.covered.checked_add(part.bytes);
        let covered = covered.filter(|covered| same && *covered <= region.length).ok_or(Status::Invalid)?;
        add(&mut region.backing)?;
        region.covered = covered;
        region.extents = region.extents.saturating_add(part.extents);
        self.extents = extents;
        self.pinned = self.pinned.saturating_add(part.bytes);
        Ok(covered == region.length)
    }

    /// Takes a complete region's memory; from now on it is the worker's to map.
    pub(crate) fn complete(&mut self, number: u32) -> Option<Complete> {
        let region = self.by_number.get_mut(&number)?;
        region.phase = Phase::Mapping;
        let Region { address, length, read_only, .. } = *region;
        Some(Complete { address, length, read_only, backing: std::mem::take(&mut region.backing) })
    }

    /// The worker has mapped the region, or could not.
    pub(crate) fn mapped(&mut self, number: u32, done: bool) {
        if done {
            self.set_phase(number, Phase::Mapped);
        } else {
            self.forget(number);
        }
    }

    /// Begins the end of a region.
    pub(crate) fn unmap(&mut self, number: u32) -> Result<Unmap, Status> {
        match self.by_number.get(&number).map(|region| region.phase) {
            Some(Phase::Collecting) => {
                self.forget(number);
                Ok(Unmap::Nothing)
            }
            Some(Phase::Mapped) => {
                self.set_phase(number, Phase::Unmapping);
                Ok(Unmap::ByWorker)
            }
            Some(Phase::Mapping | Phase::Unmapping) | None => Err(Status::Invalid),
        }
    }

    /// The worker has unmapped the region, or could not.
    pub(crate) fn unmapped(&mut self, number: u32, done: bool) {
        if done {
            self.forget(number);
        } else {
            self.set_phase(number, Phase::Mapped);
        }
    }

    fn set_phase(&mut self, number: u32, phase: Phase) {
        if let Some(region) = self.by_number.get_mut(&number) {
            region.phase = phase;
        }
    }

    fn forget(&mut self, number: u32) {
        if let Some(region) = self.by_number.remove(&number) {
            self.extents = self.extents.saturating_sub(region.extents);
            self.pinned = self.pinned.saturating_sub(region.covered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part =
        Part { region: 1, read_only: false, address: 0x1000, length: 0x4000, extents: 2, bytes: 0x2000 };

    fn collect(regions: &mut Regions, part: Part) -> Result<bool, Status> {
        regions.collect(&part, |_| Ok(part.bytes))
    }

    #[test]
    fn parts_make_a_region_that_goes_through_its_life() {
        let mut regions = Regions::default();
        assert_eq!(collect(&mut regions, PART), Ok(false));
        assert_eq!(collect(&mut regions, PART), Ok(true));
        assert_eq!(regions.pinned(), 0x4000);
        assert!(regions.complete(1).is_some_and(|complete| complete.length == 0x4000));
        assert_eq!(regions.unmap(1), Err(Status::Invalid), "it is being mapped");
        regions.mapped(1, true);
        assert_eq!(regions.unmap(1), Ok(Unmap::ByWorker));
        assert_eq!(regions.unmap(1), Err(Status::Invalid), "it is being unmapped");
        regions.unmapped(1, false);
        assert_eq!(regions.unmap(1), Ok(Unmap::ByWorker), "the worker could not; once more");
        regions.unmapped(1, true);
        assert_eq!((regions.pinned(), regions.extents), (0, 0));
    }

    #[test]
    fn a_refused_part_takes_the_others_along() {
        for wrong in [
            Part { address: 0x2000, ..PART },
            Part { length: 0x5000, ..PART },
            Part { read_only: true, ..PART },
            Part { bytes: 0x3000, ..PART },
            Part { extents: limits::MAX_EXTENTS, ..PART },
        ] {
            let mut regions = Regions::default();
            assert_eq!(collect(&mut regions, PART), Ok(false));
            assert!(collect(&mut regions, wrong).is_err(), "{wrong:?}");
            assert_eq!((regions.pinned(), regions.extents, regions.by_number.len()), (0, 0, 0), "{wrong:?}");
        }
        let mut regions = Regions::default();
        assert_eq!(regions.collect(&PART, |_| Err(Status::NotShared)), Err(Status::NotShared));
        assert_eq!(regions.by_number.len(), 0);
    }

    #[test]
    fn a_mapped_region_is_not_harmed_by_a_part_that_comes_too_late() {
        let mut regions = Regions::default();
        assert_eq!(collect(&mut regions, Part { bytes: 0x4000, ..PART }), Ok(true));
        regions.complete(1);
        regions.mapped(1, true);
        assert_eq!(collect(&mut regions, PART), Err(Status::Invalid));
        assert_eq!(regions.unmap(1), Ok(Unmap::ByWorker));
    }

    #[test]
    fn regions_are_limited_in_number() {
        let mut regions = Regions::default();
        let whole = Part { extents: 1, bytes: 0x4000, ..PART };
        for region in 1..=limits::MAX_REGIONS {
            assert_eq!(collect(&mut regions, Part { region, ..whole }), Ok(true));
        }
        let region = limits::MAX_REGIONS + 1;
        assert_eq!(collect(&mut regions, Part { region, ..whole }), Err(Status::Limit));
    }
}
