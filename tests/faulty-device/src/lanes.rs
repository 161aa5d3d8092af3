//! Answers a session's calls, wrongly.

use std::mem::offset_of;

use anyhow::{Result, anyhow, ensure};
use virtio_spec::session::{Layout, ResponseHeader, SessionHeader, WorkerState};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::fault::Fault;
use crate::noise::Noise;
use crate::region::Region;

/// `CUDA_ERROR_UNKNOWN`
const UNKNOWN: u32 = 999;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Longest chain that is looked at.
const LONGEST: usize = 8;

/// What is known of a session's lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    layout: Option<Layout>,
    /// Requests that each lane has been answered.
    answered: Vec<u16>,
}

/// A descriptor.
struct Part {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Lanes {
    /// Answers what is there. `true`: the guest is to be told.
    pub(crate) fn serve(&mut self, fault: Fault, region: &Region, noise: &mut Noise) -> Result<bool> {
        let layout = match self.layout {
            Some(layout) => layout,
            None => self.begin(fault, region)?,
        };
        if fault == Fault::CallsRefused {
            return Ok(true);
        }
        let mut any = false;
        for lane in 0..layout.lane_count() {
            while self.serve_lane(fault, region, noise, layout, lane)? {
                any = true;
                let pending = offset_of!(SessionHeader, pending_events) as u64;
                region.write(pending, &u64::MAX.to_le_bytes())?;
            }
        }
        Ok(any)
    }

    /// Reads the header, which is there from the first kick on.
    fn begin(&mut self, fault: Fault, region: &Region) -> Result<Layout> {
        let header = region.read::<{ size_of::<SessionHeader>() }>(0)?;
        let header = SessionHeader::read_from_bytes(&header).map_err(|_| anyhow!("no header"))?;
        let layout = Layout::from_header(&header).map_err(|error| anyhow!("{error:?}"))?;
        let refused = fault == Fault::CallsRefused;
        let state = if refused { WorkerState::Refused } else { WorkerState::Serving };
        region.write(offset_of!(SessionHeader, worker_state) as u64, &(state as u32).to_le_bytes())?;
        self.layout = Some(layout);
        self.answered = vec![0; layout.lane_count() as usize];
        Ok(layout)
    }

    /// Answers one request of a lane, if there is one.
    fn serve_lane(
        &mut self,
        fault: Fault,
        region: &Region,
        noise: &mut Noise,
        layout: Layout,
        lane: u32,
    ) -> Result<bool> {
        let Some(answered) = self.answered.get_mut(lane as usize) else { return Ok(false) };
        let size = u64::from(layout.queue_size());
        let slot = u64::from(*answered) % size;
        let used = layout.used(lane);
        if region.word(layout.available(lane) + 2)? == *answered {
            // The guest is to kick for the next request.
            region.write(used + 4 + 8 * size, &answered.to_le_bytes())?;
            return Ok(false);
        }
        let head = region.word(layout.available(lane) + 4 + 2 * slot)?;
        let parts = chain(region, layout, lane, head)?;
        let mut written = 0;
        if let Some(room) = parts.iter().find(|part| part.flags & WRITE != 0) {
            let length = room.length.min(4096);
            let mut response = vec![0; length as usize];
            if fault != Fault::CallsFail {
                noise.fill(&mut response);
            }
            let result = if fault == Fault::CallsFail { UNKNOWN } else { 0 };
            let rest = length.saturating_sub(u32::try_from(size_of::<ResponseHeader>())?);
            let header = ResponseHeader { result, length: if fault == Fault::CallsFail { 0 } else { rest } };
            if fault != Fault::CallsWild {
                response.iter_mut().zip(header.as_bytes()).for_each(|(byte, of)| *byte = *of);
            }
            // A guest that looks takes what it finds as soon as the header is there.
            let (header, rest) = response.split_at(size_of::<ResponseHeader>().min(response.len()));
            region.write(room.address.saturating_add(header.len() as u64), rest)?;
            region.write(room.address, header)?;
            written = length;
        }
        let (mut id, mut length) = (u32::from(head), written);
        if fault == Fault::CallsWild {
            (id, length) = (u32::from_le_bytes(first_half(noise.next())), u32::MAX);
        }
        region.write(used + 4 + 8 * slot, &id.to_le_bytes())?;
        region.write(used + 8 + 8 * slot, &length.to_le_bytes())?;
        *answered = answered.wrapping_add(1);
        region.write(used + 2, &answered.to_le_bytes())?;
        Ok(true)
    }
}

fn first_half(word: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = word.to_le_bytes();
    [a, b, c, d]
}

/// The descriptors of a chain.
fn chain(region: &Region, layout: Layout, lane: u32, head: u16) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut number = head;
    loop {
        ensure!(parts.len() < LONGEST && number < layout.queue_size(), "a broken chain");
        let bytes = region.read::<16>(layout.descriptors(lane) + 16 * u64::from(number))?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        let part = Part {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        };
        number = part.next;
        let last = part.flags & NEXT == 0;
        parts.push(part);
        if last {
            return Ok(parts);
        }
    }
}
