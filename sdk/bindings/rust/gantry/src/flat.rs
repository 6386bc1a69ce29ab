//! Flatbuffers: verify, read in place, build. What `fb::*` rests on; authors seldom need it directly.
//!
//! [`read`] verifies everything reachable from the root once, by the rules of the C++ verifier and besides that texts are
//! UTF-8. Readers are `Copy`, borrow the bytes, and check bounds again on each access, so nothing here is unsafe and
//! nothing panics on outside bytes. Owned messages (`XT`) are written with [`Message::pack`].
#![forbid(unsafe_code)]

use std::marker::PhantomData;

const MAX_SIZE: usize = i32::MAX as usize;
const MAX_DEPTH: u32 = 64;
const MAX_TABLES: u32 = 10_000_000;

/// What the verifier must know of a table.
pub struct Shape {
    pub name: &'static str,
    pub fields: &'static [Field],
}

pub struct Field {
    /// Offset in the vtable: 4 + 2 * field id.
    pub slot: u16,
    pub required: bool,
    pub kind: Kind,
}

pub enum Kind {
    /// Size, which is the alignment, too.
    Scalar(usize),
    /// Size and alignment.
    Struct(usize, usize),
    Text,
    Table(&'static Shape),
    /// Of scalars or structs of this size.
    Vector(usize),
    Texts,
    Tables(&'static Shape),
    /// Members by tag; the tag's own field is the slot before.
    Union(&'static [(u8, &'static Shape)]),
}

fn u16_at(buf: &[u8], at: usize) -> u16 {
    u16::get(tail(buf, at))
}
fn u32_at(buf: &[u8], at: usize) -> usize {
    u32::get(tail(buf, at)) as usize
}

/// `bytes` from `at` on; empty when that is past the end.
pub fn tail(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or(&[])
}

struct Check<'a> {
    buf: &'a [u8],
    depth: u32,
    tables: u32,
}

impl<'a> Check<'a> {
    fn range(&self, at: usize, n: usize) -> bool {
        n < self.buf.len() && at <= self.buf.len() - n
    }
    fn scalar(&self, at: usize, n: usize) -> bool {
        at & (n - 1) == 0 && self.range(at, n)
    }
    fn offset(&self, at: usize) -> Option<usize> {
        if !self.scalar(at, 4) {
            return None;
        }
        let o = u32_at(self.buf, at);
        if o == 0 || o > MAX_SIZE || !self.range(at.wrapping_add(o), 1) {
            return None;
        }
        Some(at + o)
    }
    /// The bytes of a vector's elements.
    fn vector(&self, at: usize, size: usize) -> Option<&'a [u8]> {
        if !self.scalar(at, 4) {
            return None;
        }
        let n = u32_at(self.buf, at);
        if n >= MAX_SIZE / size || !self.range(at, 4 + n * size) {
            return None;
        }
        self.buf.get(at + 4..at + 4 + n * size)
    }
    fn text(&self, at: usize) -> bool {
        match self.vector(at, 1) {
            Some(t) => self.range(at + 4 + t.len(), 1) && self.buf[at + 4 + t.len()] == 0 && std::str::from_utf8(t).is_ok(),
            None => false,
        }
    }
    fn table(&mut self, shape: &Shape, at: usize) -> bool {
        if !self.scalar(at, 4) {
            return false;
        }
        self.depth += 1;
        self.tables += 1;
        if self.depth > MAX_DEPTH || self.tables > MAX_TABLES {
            return false;
        }
        let vtable = at.wrapping_sub(i32::get(tail(self.buf, at)) as isize as usize);
        if !self.scalar(vtable, 2) {
            return false;
        }
        let vsize = u16_at(self.buf, vtable) as usize;
        if vsize & 1 != 0 || !self.range(vtable, vsize) {
            return false;
        }
        for f in shape.fields {
            if !self.field(f, at, vtable, vsize) {
                return false;
            }
        }
        self.depth -= 1;
        true
    }
    fn field(&mut self, f: &Field, table: usize, vtable: usize, vsize: usize) -> bool {
        let slot = f.slot as usize;
        let inside = if slot < vsize { u16_at(self.buf, vtable + slot) as usize } else { 0 };
        if inside == 0 {
            return !f.required;
        }
        let at = table + inside;
        match f.kind {
            Kind::Scalar(n) => return self.scalar(at, n),
            Kind::Struct(size, align) => return at & (align - 1) == 0 && self.range(at, size),
            _ => (),
        }
        let to = match self.offset(at) {
            Some(to) => to,
            None => return false,
        };
        match f.kind {
            Kind::Scalar(_) | Kind::Struct(..) => true,
            Kind::Text => self.text(to),
            Kind::Table(shape) => self.table(shape, to),
            Kind::Vector(size) => self.vector(to, size).is_some(),
            Kind::Texts => self.elements(to, |c, e| c.text(e)),
            Kind::Tables(shape) => self.elements(to, |c, e| c.table(shape, e)),
            Kind::Union(members) => {
                let tag_in = u16_at(self.buf, vtable + slot - 2) as usize;
                let tag = if tag_in == 0 { 0 } else { u8::get(tail(self.buf, table + tag_in)) };
                match members.iter().find(|m| m.0 == tag) {
                    Some(&(_, shape)) => self.table(shape, to),
                    None => true, // none, or of a later schema: never read
                }
            }
        }
    }
    fn elements(&mut self, at: usize, mut each: impl FnMut(&mut Self, usize) -> bool) -> bool {
        let n = match self.vector(at, 4) {
            Some(v) => v.len() / 4,
            None => return false,
        };
        (0..n).all(|i| {
            let slot = at + 4 + 4 * i;
            each(self, slot.wrapping_add(u32_at(self.buf, slot)))
        })
    }
}

/// A typed reader of one table; implemented by generated code.
pub trait Read<'a>: Copy {
    fn shape() -> &'static Shape;
    fn of(table: Table<'a>) -> Self;
}

/// The root of `bytes` as T, or None if they are not a valid T.
pub fn read<'a, T: Read<'a>>(bytes: &'a [u8]) -> Option<T> {
    if bytes.len() < 8 || bytes.len() > MAX_SIZE {
        return None;
    }
    let mut check = Check { buf: bytes, depth: 0, tables: 0 };
    let root = check.offset(0)?;
    if check.table(T::shape(), root) {
        Some(T::of(Table { buf: bytes, at: root }))
    } else {
        None
    }
}

/// A verified table.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    fn slot(self, slot: u16) -> Option<usize> {
        let vtable = self.at.wrapping_sub(i32::get(tail(self.buf, self.at)) as isize as usize);
        if slot >= u16_at(self.buf, vtable) {
            return None;
        }
        match u16_at(self.buf, vtable + slot as usize) {
            0 => None,
            inside => Some(self.at + inside as usize),
        }
    }
    fn follow(self, slot: u16) -> Option<usize> {
        self.slot(slot).map(|at| at.wrapping_add(u32_at(self.buf, at)))
    }
    /// The table that the offset at `at` leads to.
    pub fn behind(buf: &'a [u8], at: usize) -> Self {
        Table { buf, at: at.wrapping_add(u32_at(buf, at)) }
    }
    pub fn scalar<S: Scalar>(self, slot: u16, default: S) -> S {
        self.slot(slot).map_or(default, |at| S::get(tail(self.buf, at)))
    }
    pub fn optional<S: Scalar>(self, slot: u16) -> Option<S> {
        self.slot(slot).map(|at| S::get(tail(self.buf, at)))
    }
    pub fn bytes(self, slot: u16) -> &'a [u8] {
        match self.follow(slot) {
            Some(at) => tail(self.buf, at.wrapping_add(4)).get(..u32_at(self.buf, at)).unwrap_or(&[]),
            None => &[],
        }
    }
    pub fn text(self, slot: u16) -> &'a str {
        std::str::from_utf8(self.bytes(slot)).unwrap_or("")
    }
    pub fn table(self, slot: u16) -> Option<Table<'a>> {
        self.follow(slot).map(|at| Table { buf: self.buf, at })
    }
    pub fn vector<T: Element<'a>>(self, slot: u16) -> Vector<'a, T> {
        match self.follow(slot) {
            Some(at) => Vector { buf: self.buf, at: at.wrapping_add(4), len: u32_at(self.buf, at), of: PhantomData },
            None => Vector { buf: &[], at: 0, len: 0, of: PhantomData },
        }
    }
}

/// What a vector may hold.
pub trait Element<'a>: Copy {
    const STRIDE: usize;
    fn at(buf: &'a [u8], at: usize) -> Self;
}
impl<'a, S: Scalar> Element<'a> for S {
    const STRIDE: usize = S::SIZE;
    fn at(buf: &'a [u8], at: usize) -> Self {
        S::get(tail(buf, at))
    }
}
impl<'a> Element<'a> for &'a str {
    const STRIDE: usize = 4;
    fn at(buf: &'a [u8], at: usize) -> Self {
        let at = at.wrapping_add(u32_at(buf, at));
        let bytes = tail(buf, at.wrapping_add(4)).get(..u32_at(buf, at)).unwrap_or(&[]);
        std::str::from_utf8(bytes).unwrap_or("")
    }
}

/// A vector, read in place.
#[derive(Clone, Copy)]
pub struct Vector<'a, T> {
    buf: &'a [u8],
    at: usize,
    len: usize,
    of: PhantomData<T>,
}

impl<'a, T: Element<'a>> Vector<'a, T> {
    pub fn len(self) -> usize {
        self.len
    }
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
    pub fn get(self, i: usize) -> Option<T> {
        if i < self.len {
            Some(T::at(self.buf, self.at + i * T::STRIDE))
        } else {
            None
        }
    }
    pub fn iter(self) -> impl Iterator<Item = T> + 'a
    where
        T: 'a,
    {
        (0..self.len).map(move |i| T::at(self.buf, self.at + i * T::STRIDE))
    }
}

/// A number, enum or struct: bytes of a fixed size.
pub trait Scalar: Copy + PartialEq {
    const SIZE: usize;
    const ALIGN: usize;
    /// Zero if there are too few bytes.
    fn get(bytes: &[u8]) -> Self;
    fn put(self, out: &mut [u8]);
}

macro_rules! scalars {
    ($($t:ty)*) => { $(
        impl Scalar for $t {
            const SIZE: usize = std::mem::size_of::<$t>();
            const ALIGN: usize = Self::SIZE;
            fn get(bytes: &[u8]) -> Self {
                let mut raw = [0; std::mem::size_of::<$t>()];
                if let Some(b) = bytes.get(..raw.len()) {
                    raw.copy_from_slice(b);
                }
                <$t>::from_le_bytes(raw)
            }
            fn put(self, out: &mut [u8]) {
                out[..Self::SIZE].copy_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}
scalars!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

impl Scalar for bool {
    const SIZE: usize = 1;
    const ALIGN: usize = 1;
    fn get(bytes: &[u8]) -> Self {
        u8::get(bytes) != 0
    }
    fn put(self, out: &mut [u8]) {
        (self as u8).put(out)
    }
}

/// An owned message that can be written; implemented by generated code.
pub trait Message {
    /// Writes this and all below it; the root is what it returns.
    fn write(&self, b: &mut Builder) -> Ref;
    /// A buffer with this as its root.
    fn pack(&self) -> Vec<u8> {
        let mut b = Builder::default();
        let root = self.write(&mut b);
        b.finish(root)
    }
}

/// A finished child: its distance from the end of the buffer.
#[derive(Clone, Copy, PartialEq)]
pub struct Ref(u32);
impl Ref {
    pub const NONE: Ref = Ref(0);
}

/// Builds a buffer from its end to its front. Children come before the table that holds them. What would grow beyond
/// 2 GiB finishes as no bytes at all.
#[derive(Default)]
pub struct Builder {
    data: Vec<u8>, // filled from the end
    used: usize,
    align: usize,
    start: usize,
    slots: Vec<usize>, // by field id: `used` once the field was written, 0 = absent
    vtables: Vec<usize>, // latest ones: equal vtables are shared
    failed: bool,
}

impl Builder {
    /// Makes room for n bytes at the front; None once failed.
    fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        if self.failed || n > MAX_SIZE - self.used {
            self.failed = true;
            return None;
        }
        if n > self.data.len() - self.used {
            let len = (self.used + n).next_power_of_two().max(256);
            let mut data = vec![0; len];
            data[len - self.used..].copy_from_slice(&self.data[self.data.len() - self.used..]);
            self.data = data;
        }
        self.used += n;
        let front = self.data.len() - self.used;
        Some(&mut self.data[front..front + n])
    }
    fn pad(&mut self, n: usize, align: usize) {
        self.align = self.align.max(align);
        let pad = (self.used + n).wrapping_neg() & (align - 1);
        if let Some(p) = self.push(pad) {
            p.fill(0);
        }
    }
    fn push_u32(&mut self, v: usize) {
        if let Some(p) = self.push(4) {
            (v as u32).put(p);
        }
    }
    fn here(&self) -> Ref {
        Ref(if self.failed { 0 } else { self.used as u32 })
    }

    pub fn text(&mut self, s: &str) -> Ref {
        if s.is_empty() {
            Ref::NONE
        } else {
            self.text_required(s)
        }
    }
    pub fn text_required(&mut self, s: &str) -> Ref {
        self.pad(s.len() + 1, 4);
        if let Some(p) = self.push(s.len() + 1) {
            p[..s.len()].copy_from_slice(s.as_bytes());
            p[s.len()] = 0;
        }
        self.push_u32(s.len());
        self.here()
    }
    pub fn bytes(&mut self, b: &[u8]) -> Ref {
        if b.is_empty() {
            Ref::NONE
        } else {
            self.bytes_required(b)
        }
    }
    pub fn bytes_required(&mut self, b: &[u8]) -> Ref {
        self.pad(b.len(), 4);
        if let Some(p) = self.push(b.len()) {
            p.copy_from_slice(b);
        }
        self.push_u32(b.len());
        self.here()
    }
    pub fn vector<S: Scalar>(&mut self, items: &[S]) -> Ref {
        if items.is_empty() {
            Ref::NONE
        } else {
            self.vector_required(items)
        }
    }
    pub fn vector_required<S: Scalar>(&mut self, items: &[S]) -> Ref {
        let size = items.len() * S::SIZE;
        self.pad(size, 4);
        self.pad(size, S::ALIGN);
        if let Some(p) = self.push(size) {
            p.fill(0); // padding inside structs
            for (i, item) in items.iter().enumerate() {
                item.put(&mut p[i * S::SIZE..(i + 1) * S::SIZE]);
            }
        }
        self.push_u32(items.len());
        self.here()
    }
    fn refs(&mut self, refs: &[Ref]) -> Ref {
        self.pad(refs.len() * 4, 4);
        for r in refs.iter().rev() {
            self.push_u32(self.used + 4 - r.0 as usize);
        }
        self.push_u32(refs.len());
        self.here()
    }
    pub fn texts(&mut self, items: &[String]) -> Ref {
        if items.is_empty() {
            Ref::NONE
        } else {
            self.texts_required(items)
        }
    }
    pub fn texts_required(&mut self, items: &[String]) -> Ref {
        let refs: Vec<Ref> = items.iter().map(|s| self.text_required(s)).collect();
        self.refs(&refs)
    }
    pub fn tables<M: Message>(&mut self, items: &[M]) -> Ref {
        if items.is_empty() {
            Ref::NONE
        } else {
            self.tables_required(items)
        }
    }
    pub fn tables_required<M: Message>(&mut self, items: &[M]) -> Ref {
        let refs: Vec<Ref> = items.iter().map(|m| m.write(self)).collect();
        self.refs(&refs)
    }

    pub fn begin(&mut self) {
        self.start = self.used;
        self.slots.clear();
    }
    fn mark(&mut self, slot: u16) {
        let id = (slot as usize - 4) / 2;
        if self.slots.len() <= id {
            self.slots.resize(id + 1, 0);
        }
        self.slots[id] = self.used;
    }
    pub fn set_optional<S: Scalar>(&mut self, slot: u16, v: Option<S>) {
        if let Some(v) = v {
            self.pad(S::SIZE, S::ALIGN);
            if let Some(p) = self.push(S::SIZE) {
                p.fill(0);
                v.put(p);
            }
            self.mark(slot);
        }
    }
    pub fn set<S: Scalar>(&mut self, slot: u16, v: S, default: S) {
        if v != default {
            self.set_optional(slot, Some(v));
        }
    }
    pub fn set_ref(&mut self, slot: u16, to: Ref) {
        if to != Ref::NONE {
            self.pad(4, 4);
            self.push_u32(self.used + 4 - to.0 as usize);
            self.mark(slot);
        }
    }
    pub fn set_union(&mut self, slot: u16, (tag, to): (u8, Ref)) {
        if to != Ref::NONE {
            self.set_optional(slot - 2, Some(tag));
            self.set_ref(slot, to);
        }
    }
    pub fn end(&mut self) -> Ref {
        self.pad(4, 4);
        self.push_u32(0);
        let table = self.used;
        if self.failed || table - self.start > u16::MAX as usize {
            self.failed = true;
            return Ref::NONE;
        }
        let mut vtable = vec![0; 4 + 2 * self.slots.len()];
        (vtable.len() as u16).put(&mut vtable);
        ((table - self.start) as u16).put(&mut vtable[2..]);
        for (i, &at) in self.slots.iter().enumerate() {
            if at != 0 {
                ((table - at) as u16).put(&mut vtable[4 + 2 * i..]);
            }
        }
        let end = self.data.len();
        let data = &self.data;
        let known = self.vtables.iter().rev().take(16).copied().find(|&at| data[end - at..].starts_with(&vtable));
        let at = match known {
            Some(at) => at,
            None => {
                self.pad(vtable.len(), 2);
                if let Some(p) = self.push(vtable.len()) {
                    p.copy_from_slice(&vtable);
                }
                self.vtables.push(self.used);
                self.used
            }
        };
        if self.failed {
            return Ref::NONE;
        }
        let slot = self.data.len() - table;
        (at as u32).wrapping_sub(table as u32).put(&mut self.data[slot..]);
        Ref(table as u32)
    }
    pub fn finish(mut self, root: Ref) -> Vec<u8> {
        self.pad(4, self.align.max(4));
        self.push_u32(self.used + 4 - root.0 as usize);
        if self.failed || root == Ref::NONE {
            return Vec::new();
        }
        let front = self.data.len() - self.used;
        self.data.drain(..front);
        self.data
    }
}
