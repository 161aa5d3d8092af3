//! Textures and surfaces.

use super::{Modifiers, Result};
use crate::ptx::body::Body;
use crate::ptx::ir::{Bounds, Detail, Geometry, Op, Source, ViewInst, ViewOp, ViewQuery};
use crate::ptx::operand::{Home, Operand};
use crate::ptx::types::Type;

/// Geometries by name; those with layers have the layer before the other coordinates.
const GEOMETRIES: [(&str, Geometry); 7] = [
    ("1d", Geometry { axes: 1, layered: false, cube: false }),
    ("2d", Geometry { axes: 2, layered: false, cube: false }),
    ("3d", Geometry { axes: 3, layered: false, cube: false }),
    ("a1d", Geometry { axes: 1, layered: true, cube: false }),
    ("a2d", Geometry { axes: 2, layered: true, cube: false }),
    ("cube", Geometry { axes: 3, layered: false, cube: true }),
    ("acube", Geometry { axes: 3, layered: true, cube: true }),
];

const QUERIES: [(&str, ViewQuery); 6] = [
    ("width", ViewQuery::Width),
    ("height", ViewQuery::Height),
    ("depth", ViewQuery::Depth),
    ("array_size", ViewQuery::Layers),
    ("num_mipmap_levels", ViewQuery::Levels),
    ("normalized_coords", ViewQuery::Normalized),
];

/// Takes the modifier of a table that is present.
fn take<T: Copy>(m: &mut Modifiers<'_>, table: &[(&str, T)]) -> Option<T> {
    table.iter().find_map(|(name, value)| m.take(name).then_some(*value))
}

fn elements(m: &mut Modifiers<'_>) -> usize {
    match m.take_one(&["v2", "v4"]) {
        Some("v2") => 2,
        Some(_) => 4,
        None => 1,
    }
}

fn list(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(list) => list,
        one => std::slice::from_ref(one),
    }
}

impl Body<'_, '_> {
    pub(super) fn view(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        match name {
            "tex" => self.sample(m, operands),
            "tld4" => self.gather(m, operands),
            "suld" | "sust" => self.surface(name == "sust", m, operands),
            _ => self.ask(m, operands),
        }
    }

    /// The number of a texture or surface.
    fn object(&self, operand: &Operand) -> Result<Source> {
        match operand {
            Operand::Variable(Home::Global | Home::Unknown | Home::KernelParam, _) => {
                self.error("texture and surface references are not supported; objects are")
            }
            object => self.value(object, Type::B64),
        }
    }

    /// Object and coordinates: as many as the geometry has; a vector may be filled up.
    fn place(
        &self,
        operands: &[Operand],
        at: usize,
        geometry: Geometry,
        ty: Type,
    ) -> Result<(Source, Vec<Source>)> {
        let Operand::Sampled(object, coordinates) = self.nth(operands, at)? else {
            return self.error("an object and coordinates in brackets are needed");
        };
        let count = usize::from(geometry.axes) + usize::from(geometry.layered);
        if coordinates.len() < count || coordinates.len() > 4 {
            return self.error(format!("{count} coordinates are needed"));
        }
        let mut sources = Vec::new();
        for (index, coordinate) in coordinates.iter().take(count).enumerate() {
            let ty = if geometry.layered && index == 0 { Type::B32 } else { ty };
            sources.push(self.value(coordinate, ty)?);
        }
        Ok((self.object(object)?, sources))
    }

    fn values(&self, operand: &Operand, ty: Type) -> Result<Vec<Source>> {
        list(operand).iter().map(|item| self.value(item, ty)).collect()
    }

    fn results(&self, operand: &Operand, count: usize, ty: Type) -> Result<Vec<u32>> {
        let items = list(operand);
        if items.len() != count {
            return self.error(format!("a vector of {count} registers is needed"));
        }
        items.iter().map(|item| Ok(self.wide_target(item, ty)?.0)).collect()
    }

    /// The types of the result and of the coordinates, in this order.
    fn types(m: &mut Modifiers<'_>) -> Result<(Type, Type)> {
        let (at, of) = (m.ty()?, m.ty()?);
        m.check(matches!(at, Type::F32 | Type::S32 | Type::U32).then_some((at, of)))
    }

    fn sample(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let detail = m.take_one(&["base", "level", "grad"]);
        let Some(geometry) = take(m, &GEOMETRIES) else { return m.unsupported() };
        if !m.take("v4") {
            return m.unsupported();
        }
        let (to, of) = Self::types(m)?;
        let whole = of == Type::S32;
        m.check((whole || of == Type::F32).then_some(()))?;
        let extra = match detail {
            Some("level") => 1,
            Some("grad") => 2,
            _ => 0,
        };
        self.count(m, operands, 2 + extra)?;
        let (object, coordinates) = self.place(operands, 1, geometry, of)?;
        let detail = match detail {
            Some("level") => Detail::Level(self.source(operands, 2, of)?),
            Some("grad") => {
                let first = self.values(self.nth(operands, 2)?, Type::F32)?;
                Detail::Gradient(first, self.values(self.nth(operands, 3)?, Type::F32)?)
            }
            _ => Detail::Finest,
        };
        let to = self.elements(&self.results(self.nth(operands, 0)?, 4, to)?)?;
        let op = ViewOp::Sample { to, whole, detail };
        self.emit(Op::View(Box::new(ViewInst { object, geometry, coordinates, op })))
    }

    fn gather(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let channels = [("r", 0), ("g", 1), ("b", 2), ("a", 3)];
        let Some(channel) = take(m, &channels) else { return m.unsupported() };
        let geometry = take(m, &GEOMETRIES).filter(|geometry| geometry.axes == 2);
        let Some(geometry) = geometry else { return m.unsupported() };
        if !m.take("v4") {
            return m.unsupported();
        }
        let (to, of) = Self::types(m)?;
        m.check((of == Type::F32).then_some(()))?;
        self.count(m, operands, 2)?;
        let (object, coordinates) = self.place(operands, 1, geometry, of)?;
        let to = self.elements(&self.results(self.nth(operands, 0)?, 4, to)?)?;
        let op = ViewOp::Gather { to, channel };
        self.emit(Op::View(Box::new(ViewInst { object, geometry, coordinates, op })))
    }

    fn surface(&mut self, stores: bool, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        // The formatted form `.p` is another matter.
        if !m.take("b") {
            return m.unsupported();
        }
        let Some(geometry) = take(m, &GEOMETRIES).filter(|geometry| !geometry.cube) else {
            return m.unsupported();
        };
        m.take_one(&["ca", "cg", "cs", "cv", "wb", "wt"]);
        let count = elements(m);
        let bounds = [("trap", Bounds::Trap), ("clamp", Bounds::Clamp), ("zero", Bounds::Zero)];
        let bounds = take(m, &bounds).unwrap_or(Bounds::Trap);
        let ty = m.ty()?;
        m.check((matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64)).then_some(()))?;
        self.count(m, operands, 2)?;
        let (object, coordinates) = self.place(operands, usize::from(!stores), geometry, Type::B32)?;
        let op = if stores {
            let from = self.values(self.nth(operands, 1)?, ty)?;
            if from.len() != count {
                return self.error(format!("a vector of {count} values is needed"));
            }
            ViewOp::Store { from: self.elements(&from)?, width: ty.bytes(), bounds }
        } else {
            let to = self.elements(&self.results(self.nth(operands, 0)?, count, ty)?)?;
            ViewOp::Load { to, width: ty.bytes(), bounds }
        };
        self.emit(Op::View(Box::new(ViewInst { object, geometry, coordinates, op })))
    }

    fn ask(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let has_level = m.take("level");
        let Some(query) = take(m, &QUERIES) else { return m.unsupported() };
        let ty = m.ty()?;
        m.check((ty == Type::B32).then_some(()))?;
        self.count(m, operands, if has_level { 3 } else { 2 })?;
        let Operand::Address(object, 0) = self.nth(operands, 1)? else {
            return self.error("an object in brackets is needed");
        };
        let object = self.object(object)?;
        let level = if has_level { self.source(operands, 2, Type::B32)? } else { Source::Value(0) };
        let to = self.target(operands, 0, ty)?;
        let op = ViewOp::Query { to, query, level };
        let geometry = Geometry { axes: 0, layered: false, cube: false };
        self.emit(Op::View(Box::new(ViewInst { object, geometry, coordinates: Vec::new(), op })))
    }
}
