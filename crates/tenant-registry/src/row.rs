//! How rows and migrations of both databases come in, without the macros of `sqlx`: those build both databases' clients a
//! second time, for the compiler.

/// Defines a row, read from either database by the names of its fields.
macro_rules! row {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$note:meta])* $seen:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$note])* $seen $field: $type,)*
        }

        crate::row::read_from! { $name: $($field),* }
    };
}

/// Reads a row from either database: fields by their names, and one that is a row itself out of the same columns.
macro_rules! read_from {
    ($name:ident: $($field:ident),* $(; $row:ident)?) => {
        crate::row::read_from! { @ sqlx::postgres::PgRow, $name: $($field),* $(; $row)? }
        crate::row::read_from! { @ sqlx::sqlite::SqliteRow, $name: $($field),* $(; $row)? }
    };
    (@ $row_type:ty, $name:ident: $($field:ident),* $(; $row:ident)?) => {
        impl sqlx::FromRow<'_, $row_type> for $name {
            fn from_row(row: &$row_type) -> Result<Self, sqlx::Error> {
                Ok(Self {
                    $($field: sqlx::Row::try_get(row, stringify!($field))?,)*
                    $($row: sqlx::FromRow::from_row(row)?,)?
                })
            }
        }
    };
}

/// Compiles the migrations of a database in.
macro_rules! migrations {
    ($directory:literal: $($file:literal),* $(,)?) => {
        std::sync::LazyLock::new(|| {
            let files = [$(($file, include_str!(concat!("../../../migrations/", $directory, "/", $file, ".sql")))),*];
            crate::row::migrator(files)
        })
    };
}

pub(crate) use {migrations, read_from, row};

/// Makes migrations of files: `0001_name` and its SQL.
pub(crate) fn migrator<const COUNT: usize>(files: [(&'static str, &'static str); COUNT]) -> Migrator {
    let one = |(name, sql): (&'static str, &'static str)| {
        let (version, description) = name.split_once('_').unwrap_or((name, ""));
        let version = version.parse().unwrap_or(i64::MAX);
        let description = description.replace('_', " ").into();
        Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(files.map(one).to_vec())
}

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_migration_in_the_directories_is_compiled_in() {
        let (postgres, sqlite) = (&*crate::postgres::MIGRATIONS, &*crate::sqlite::MIGRATIONS);
        for (directory, compiled) in [("postgres", postgres), ("sqlite", sqlite)] {
            let path = format!("{}/../../migrations/{directory}", env!("CARGO_MANIFEST_DIR"));
            let names =
                std::fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
            let migrations = names.filter(|name| name.as_bytes()[0].is_ascii_digit());
            let files: BTreeSet<_> = migrations.map(|name| name[..4].parse::<i64>().unwrap()).collect();

            assert_eq!(compiled.iter().map(|it| it.version).collect::<BTreeSet<_>>(), files, "{directory}");
        }
    }
}
