//! Migrations: each step from an earlier version to a later one, the last to this one.

use serde_json::Map;
use toml::Spanned;

use super::{Scope, names, value};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawMigration;
use crate::graph::{Migration, suggest};

/// Checks the migrations of a file of this version.
pub(super) fn check(
    raw: &[RawMigration],
    version: u32,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<Migration> {
    let mut out: Vec<(Migration, &RawMigration)> = Vec::new();
    for raw in raw {
        let (Some(from), Some(to)) = (raw.from.get(), raw.to.get()) else { continue };
        let (first, last) = (*from.get_ref(), *to.get_ref());
        if first >= last || last > version {
            let (place, label, message) = if first >= last {
                (to, "not later", format!("a migration leads from version {first} to {last}"))
            } else {
                (
                    to,
                    "later than this file",
                    format!("a migration leads to version {last}, and this file is version {version}"),
                )
            };
            faults.push(Fault::new(
                codes::MIGRATION,
                place.span(),
                label,
                message,
                format!("lead from an earlier version to a later one, at most to {version}"),
            ));
            continue;
        }
        if let Some((_, other)) = out.iter().find(|(other, _)| other.from == first) {
            faults.push(
                Fault::new(
                    codes::MIGRATION,
                    from.span(),
                    "again",
                    format!("two migrations lead from version {first}"),
                    "keep one of them",
                )
                .also(other.span.clone(), "the other one"),
            );
            continue;
        }
        out.push((lower(raw, first, last), raw));
    }
    for (migration, raw) in &out {
        if migration.to != version && !out.iter().any(|(next, _)| next.from == migration.to) {
            faults.push(Fault::new(
                codes::MIGRATION,
                raw.to.get().map_or_else(|| raw.span.clone(), Spanned::span),
                "and from there?",
                format!("no migration leads on from version {} to {version}", migration.to),
                format!("lead to {version}, or add a migration from {}", migration.to),
            ));
        }
        step(migration, raw, &out, scope, faults);
    }
    out.sort_by_key(|(migration, _)| migration.from);
    out.into_iter().map(|(migration, _)| migration).collect()
}

fn lower(raw: &RawMigration, from: u32, to: u32) -> Migration {
    let pairs = |pairs: &[(Spanned<String>, Spanned<String>)]| {
        pairs.iter().map(|(old, new)| (old.get_ref().clone(), new.get_ref().clone())).collect()
    };
    Migration {
        from,
        to,
        rename: pairs(&raw.rename),
        default: raw
            .default
            .iter()
            .map(|(name, value)| (name.get_ref().clone(), value.get_ref().clone()))
            .collect::<Map<_, _>>(),
        drop: raw
            .drop
            .get()
            .into_iter()
            .flat_map(toml::Spanned::get_ref)
            .map(|name| name.get_ref().clone())
            .collect(),
        nodes: pairs(&raw.nodes),
    }
}

/// Checks the names of one migration. Those that later ones rename or drop need not be names of this version.
fn step(
    migration: &Migration,
    raw: &RawMigration,
    all: &[(Migration, &RawMigration)],
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) {
    let later = || all.iter().filter(|(other, _)| other.from >= migration.to).map(|(other, _)| other);
    let later_channel = |name: &str| {
        later().any(|other| {
            other.drop.iter().any(|d| d == name) || other.rename.iter().any(|(old, _)| old == name)
        })
    };
    let unknown = |name: &Spanned<String>, what: &str, help: String| {
        Fault::new(
            codes::MIGRATION,
            name.span(),
            format!("no such {what}"),
            format!(
                "the migration to version {} leads to the {what} `{}`, which there is not",
                migration.to,
                name.get_ref()
            ),
            help,
        )
    };
    let targets = raw.rename.iter().map(|(_, new)| new).chain(raw.default.iter().map(|(name, _)| name));
    for name in targets {
        if scope.channel(name.get_ref()).is_none() && !later_channel(name.get_ref()) {
            faults.push(unknown(
                name,
                "channel",
                suggest::help(name.get_ref(), scope.channel_names(), "channels"),
            ));
        }
    }
    for (_, name) in &raw.nodes {
        let renamed = later().any(|other| other.nodes.iter().any(|(old, _)| old == name.get_ref()));
        if !scope.node_names().any(|node| node == name.get_ref()) && !renamed {
            faults.push(unknown(name, "node", suggest::help(name.get_ref(), scope.node_names(), "nodes")));
        }
    }
    for (old, _) in &raw.rename {
        names::channel(old, faults);
    }
    for name in raw.drop.get().into_iter().flat_map(toml::Spanned::get_ref) {
        if raw.rename.iter().any(|(old, _)| old.get_ref() == name.get_ref()) {
            faults.push(Fault::new(
                codes::MIGRATION,
                name.span(),
                "renamed and dropped",
                format!("the migration both renames and drops `{}`", name.get_ref()),
                "do one of the two",
            ));
        }
    }
    if migration.to != all.iter().map(|(other, _)| other.to).max().unwrap_or_default() {
        return;
    }
    for (name, given) in &raw.default {
        let Some((_, channel)) = scope.channel(name.get_ref()) else { continue };
        let Some(ty) = &channel.ty else { continue };
        if let Some(why) = value::misfit(ty, given.get_ref(), scope.catalog) {
            faults.push(
                Fault::new(
                    codes::DEFAULT_TYPE,
                    given.span(),
                    why,
                    format!("the migration's value of `{}` is no `{ty}`", name.get_ref()),
                    format!("write a value of type `{ty}`"),
                )
                .also(channel.span.clone(), format!("is `{ty}`")),
            );
        }
    }
}
