//! Instructions on textures and surfaces, for one group of lanes.

use std::sync::Arc;

use super::FaultKind;
use super::memory::Refused;
use super::step::{refusal, trouble};
use super::view::{Level, Place, Texel, View, cube};
use super::warp::{Env, Trouble, Warp, lanes_of};
use crate::ptx::ir::{
    Bounds, Detail, Elements, Geometry, Lanes, Slot, Source, ViewInst, ViewOp, ViewQuery, WARP,
};

use std::sync::atomic::Ordering::Relaxed;

/// The views that a warp's lanes name: mostly one.
#[derive(Default)]
struct Named(Vec<(u64, Arc<View>)>);

impl Named {
    fn get(&mut self, env: &Env<'_, '_>, object: u64, lane: usize) -> Result<Arc<View>, Trouble> {
        if let Some((_, view)) = self.0.iter().find(|(number, _)| *number == object) {
            return Ok(Arc::clone(view));
        }
        let Some(view) = env.global.device().view(object) else {
            let detail = format!("no texture or surface {object:#x}");
            return Err(trouble(FaultKind::IllegalAddress, 1 << (lane & 31), detail));
        };
        self.0.push((object, Arc::clone(&view)));
        Ok(view)
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

fn float(value: u64) -> f32 {
    f32::from_bits(low(value))
}

fn signed(value: u64) -> i64 {
    i64::from(low(value).cast_signed())
}

/// The coordinates of a lane.
#[derive(Clone, Copy)]
struct Spot {
    layer: Option<u32>,
    at: [u64; 3],
    axes: usize,
}

impl Spot {
    fn new(geometry: Geometry, values: &[Lanes], lane: usize) -> Self {
        let mut all = values.iter().map(|lanes| lanes.get(lane).copied().unwrap_or(0));
        let layer = if geometry.layered { all.next().map(low) } else { None };
        let mut at = [0; 3];
        for (to, from) in at.iter_mut().zip(all) {
            *to = from;
        }
        Self { layer, at, axes: usize::from(geometry.axes) }
    }

    /// The place that a sample is taken of: of a cube, on one of its faces.
    fn place(&self, geometry: Geometry) -> Place {
        let at = self.at.map(float);
        if geometry.cube {
            let (face, [s, t]) = cube(at);
            let layer = Some(self.layer.unwrap_or(0).saturating_mul(6).saturating_add(face));
            return Place { at: [s, t, 0.0], axes: 2, layer };
        }
        Place { at, axes: self.axes, layer: self.layer }
    }
}

impl Warp {
    pub(super) fn view(
        &mut self,
        env: &mut Env<'_, '_>,
        inst: &ViewInst,
        base: u32,
        active: u32,
    ) -> Result<(), Trouble> {
        let objects = self.lanes(env, inst.object, base);
        let coordinates: Vec<Lanes> =
            inst.coordinates.iter().map(|source| self.lanes(env, *source, base)).collect();
        let mut named = Named::default();
        let spot = |lane: usize| Spot::new(inst.geometry, &coordinates, lane);
        match &inst.op {
            ViewOp::Sample { to, whole, detail } => {
                let detail = self.detail(env, detail, base);
                self.texels(env, to, base, active, |env, lane| {
                    let view = named.get(env, objects[lane], lane)?;
                    let spot = spot(lane);
                    let mut read = reader(env);
                    let found = if *whole {
                        view.fetch(detail.whole(lane), spot.at.map(signed), spot.axes, spot.layer, &mut read)
                    } else {
                        let lod = detail.of(&view, spot.axes, lane);
                        view.sample(lod, spot.place(inst.geometry), &mut read)
                    };
                    found.map_err(|refused| refusal(&refused, lane))
                })
            }
            ViewOp::Gather { to, channel } => self.texels(env, to, base, active, |env, lane| {
                let view = named.get(env, objects[lane], lane)?;
                let place = spot(lane).place(inst.geometry);
                let found = view.gather(usize::from(*channel), place, &mut reader(env));
                found.map_err(|refused| refusal(&refused, lane))
            }),
            ViewOp::Load { to, width, bounds } => self.texels(env, to, base, active, |env, lane| {
                let view = named.get(env, objects[lane], lane)?;
                let mut out = [0; 4];
                let bytes = u64::from(*width) * u64::from(to.count);
                let Some(at) = element(&view, &spot(lane), bytes, *bounds, lane)? else {
                    return Ok(out);
                };
                for (index, value) in (0u64..).zip(out.iter_mut().take(usize::from(to.count))) {
                    let read = reader(env)(at + index * u64::from(*width), *width);
                    *value = read.map_err(|refused| refusal(&refused, lane))?;
                }
                Ok(out)
            }),
            ViewOp::Store { from, width, bounds } => {
                let values: Vec<Lanes> = from.iter().map(|source| self.lanes(env, source, base)).collect();
                for lane in lanes_of(active) {
                    let view = named.get(env, objects[lane], lane)?;
                    let bytes = u64::from(*width) * u64::from(from.count);
                    let Some(at) = element(&view, &spot(lane), bytes, *bounds, lane)? else { continue };
                    for (index, value) in (0u64..).zip(&values) {
                        let cell = env.global.cell(at + index * u64::from(*width), *width, true);
                        cell.map_err(|refused| refusal(&refused, lane))?.store(value[lane], Relaxed);
                    }
                }
                Ok(())
            }
            ViewOp::Query { to, query, level } => {
                let levels = self.lanes(env, *level, base);
                let mut out = [0; WARP];
                for lane in lanes_of(active) {
                    let view = named.get(env, objects[lane], lane)?;
                    out[lane] = answer(&view, *query, levels[lane]);
                }
                self.fill(base, *to, active, &out);
                Ok(())
            }
        }
    }

    fn lanes(&self, env: &Env<'_, '_>, source: Source, base: u32) -> Lanes {
        let mut room = [0; WARP];
        *self.fetch(env, source, base, &mut room)
    }

    /// Writes what each lane reads to the registers of a result.
    fn texels<'e, 'g>(
        &mut self,
        env: &mut Env<'e, 'g>,
        to: &Elements<Slot>,
        base: u32,
        active: u32,
        mut read: impl FnMut(&mut Env<'e, 'g>, usize) -> Result<Texel, Trouble>,
    ) -> Result<(), Trouble> {
        let mut out = [[0; WARP]; 4];
        for lane in lanes_of(active) {
            let texel = read(env, lane)?;
            for (lanes, value) in out.iter_mut().zip(texel) {
                lanes[lane] = value;
            }
        }
        for (slot, lanes) in to.iter().zip(&out) {
            self.fill(base, slot, active, lanes);
        }
        Ok(())
    }

    fn detail(&self, env: &Env<'_, '_>, detail: &Detail, base: u32) -> Details {
        let all = |sources: &[Source]| sources.iter().map(|s| self.lanes(env, *s, base)).collect();
        match detail {
            Detail::Finest => Details::Finest,
            Detail::Level(source) => Details::Level(Box::new(self.lanes(env, *source, base))),
            Detail::Gradient(first, second) => Details::Gradient([all(first), all(second)]),
        }
    }
}

/// Levels of detail of a warp's lanes.
enum Details {
    Finest,
    Level(Box<Lanes>),
    Gradient([Vec<Lanes>; 2]),
}

impl Details {
    /// The level of detail of a fetch, which is a whole number.
    #[expect(clippy::cast_precision_loss, reason = "more levels than any texture has")]
    fn whole(&self, lane: usize) -> f32 {
        match self {
            Self::Level(levels) => signed(levels[lane]) as f32,
            _ => 0.0,
        }
    }

    fn of(&self, view: &View, axes: usize, lane: usize) -> f32 {
        match self {
            Self::Finest => 0.0,
            Self::Level(levels) => float(levels[lane]),
            Self::Gradient(gradients) => {
                let Some(level) = view.levels.first() else { return 0.0 };
                let length = |gradient: &Vec<Lanes>| {
                    let scaled = gradient.iter().take(axes).zip(level.size).map(|(lanes, size)| {
                        let scale = if view.normalized { f64::from(size) } else { 1.0 };
                        (f64::from(float(lanes[lane])) * scale).powi(2)
                    });
                    scaled.sum::<f64>().sqrt()
                };
                let most = gradients.iter().map(length).fold(0.0, f64::max);
                #[expect(clippy::cast_possible_truncation, reason = "a level of detail is a small number")]
                let lod = most.log2() as f32;
                lod
            }
        }
    }
}

/// Reads channels of device memory.
fn reader<'r, 'e, 'g>(
    env: &'r mut Env<'e, 'g>,
) -> impl FnMut(u64, u8) -> Result<u64, Refused> + use<'r, 'e, 'g> {
    |address, width| env.global.cell(address, width, false).map(|cell| cell.load(Relaxed))
}

/// Where an element of a surface is; `None` outside, where that is allowed. The first coordinate counts bytes.
fn element(
    view: &View,
    spot: &Spot,
    bytes: u64,
    bounds: Bounds,
    lane: usize,
) -> Result<Option<u64>, Trouble> {
    let outside = |detail: &str| trouble(FaultKind::IllegalAddress, 1 << (lane & 31), detail);
    let Some(Level { address, size, pitch, slice }) = view.levels.first() else { return Ok(None) };
    let mut at = spot.at.map(signed);
    if let Some(layer) = spot.layer {
        at[2] = i64::from(layer);
    }
    let [width, height, depth] = size.map(i64::from);
    let row = width * i64::try_from(view.element()).unwrap_or(1);
    let last = row - i64::try_from(bytes).unwrap_or(row);
    let most = [last, height - 1, depth - 1];
    let inside = at.iter().zip(most).all(|(&at, most)| (0..=most).contains(&at));
    if !inside {
        match bounds {
            Bounds::Zero => return Ok(None),
            Bounds::Trap => return Err(outside("outside the surface")),
            Bounds::Clamp => {
                for (at, most) in at.iter_mut().zip(most) {
                    *at = (*at).clamp(0, most.max(0));
                }
            }
        }
    }
    let [x, y, z] = at.map(|value| u64::try_from(value).unwrap_or(0));
    if x % bytes != 0 {
        let refused = Refused { kind: FaultKind::MisalignedAddress, address: x };
        return Err(refusal(&refused, lane));
    }
    Ok(Some(address + x + y * pitch + z * slice))
}

fn answer(view: &View, query: ViewQuery, level: u64) -> u64 {
    let level = usize::try_from(low(level)).unwrap_or(0);
    let size = view.levels.get(level).map_or([0; 3], |level| level.size);
    let levels = u32::try_from(view.levels.len()).unwrap_or(0);
    u64::from(match query {
        ViewQuery::Width => size[0],
        ViewQuery::Height => size[1],
        ViewQuery::Depth | ViewQuery::Layers => size[2],
        ViewQuery::Levels => levels,
        ViewQuery::Normalized => u32::from(view.normalized),
    })
}
