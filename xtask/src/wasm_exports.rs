//! Gives the module's own callbacks the names that the proxy calls, and takes away those that do nothing.
//!
//! The SDK defines each callback under the proxy's name, and a symbol can be defined once. So `filter/src/envoy.rs` exports
//! its own as `tollgate:<name>`; here they take the place of the SDK's, which they call. The SDK exports all callbacks there
//! are; the proxy calls for each stream those that are exported, at some third of a microsecond each.

use anyhow::{Context, Result, ensure};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};

/// Before the name of an export that is to replace another one.
const OWN: &str = "tollgate:";

/// Callbacks that every stream would be charged for and that do nothing: what ends a stream is `proxy_on_delete`.
const IDLE: [&str; 2] = ["proxy_on_done", "proxy_on_log"];

/// The module with each of its `own` exports `tollgate:<name>` in the place of `<name>`, and without those that are idle.
pub fn prefer_own(module: &[u8], own: usize) -> Result<Vec<u8>> {
    let mut out = Module::new();
    let (mut replaced, mut dropped) = (0, 0);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.context("the filter's module cannot be read")?;
        if let Payload::ExportSection(reader) = &payload {
            let exports = reader.clone().into_iter().collect::<Result<Vec<_>, _>>()?;
            let names: Vec<&str> =
                exports.iter().filter_map(|export| export.name.strip_prefix(OWN)).collect();
            let mut section = ExportSection::new();
            for export in &exports {
                let kind = match export.kind {
                    ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
                    ExternalKind::Table => ExportKind::Table,
                    ExternalKind::Memory => ExportKind::Memory,
                    ExternalKind::Global => ExportKind::Global,
                    ExternalKind::Tag => ExportKind::Tag,
                };
                match export.name.strip_prefix(OWN) {
                    Some(name) => {
                        let there = exports.iter().any(|other| other.name == name);
                        ensure!(there, "the module exports {OWN}{name} and no {name} that it could replace");
                        section.export(name, kind, export.index);
                        replaced += 1;
                    }
                    None if names.contains(&export.name) => {}
                    None if IDLE.contains(&export.name) => dropped += 1,
                    None => {
                        section.export(export.name, kind, export.index);
                    }
                }
            }
            out.section(&section);
        } else if let Some((id, range)) = payload.as_section() {
            let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
            let data = module.get(range).context("a section lies outside of the module")?;
            out.section(&RawSection { id, data });
        }
    }
    ensure!(dropped == IDLE.len(), "the module does not export all of {IDLE:?}: is there one to be dropped?");
    ensure!(replaced == own, "the module exports {replaced} callbacks of its own under {OWN}, not {own}");
    Ok(out.finish())
}
