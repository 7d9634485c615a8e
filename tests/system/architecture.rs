//! The architecture, as far as a machine can check it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every arrow that the design allows between our crates.
const ARROWS: [(&str, &[&str]); 12] = [
    ("push-domain", &[]),
    ("tenant-registry", &["push-domain"]),
    ("dispatch-stream", &["push-domain"]),
    ("apns-sender", &["push-domain"]),
    ("fcm-sender", &["push-domain"]),
    ("http-edge", &["push-domain"]),
    ("dispatch-worker", &["push-domain", "dispatch-stream", "tenant-registry"]),
    ("gateway", &["push-domain", "dispatch-stream", "tenant-registry", "http-edge"]),
    ("admin-api", &["push-domain", "dispatch-stream", "tenant-registry", "http-edge"]),
    ("provider-sim", &["http-edge"]),
    (
        "hpns",
        &[
            "push-domain",
            "tenant-registry",
            "dispatch-stream",
            "apns-sender",
            "fcm-sender",
            "http-edge",
            "dispatch-worker",
            "gateway",
            "admin-api",
            "provider-sim",
        ],
    ),
    ("system-tests", &["hpns", "provider-sim", "push-domain", "dispatch-stream"]),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let ours: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let normal = |package: &cargo_metadata::Package| {
        let dependencies = package.dependencies.iter().filter(|one| one.kind == DependencyKind::Normal);
        dependencies.map(|one| one.name.clone()).filter(|name| ours.contains(name)).collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

#[test]
fn crates_depend_on_each_other_only_along_the_allowed_arrows() {
    for (package, found) in arrows() {
        let allowed = ARROWS
            .iter()
            .find(|(name, _)| *name == package)
            .unwrap_or_else(|| panic!("{package} is not in the design"))
            .1;
        for dependency in found {
            assert!(allowed.contains(&dependency.as_str()), "{package} must not depend on {dependency}");
        }
    }
}

/// Every file below a directory, with its text.
fn sources(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn a_face_sees_neither_the_stream_nor_the_registry() {
    let faces = sources(&root().join("crates/gateway/src/faces"));
    assert!(faces.len() > 10, "{}", faces.len());
    for (path, text) in faces {
        for hidden in ["dispatch_stream", "tenant_registry", "crate::fair", "crate::admission"] {
            assert!(!text.contains(hidden), "{path} must not know {hidden}");
        }
    }
}

#[test]
fn the_roles_of_a_process_do_not_know_each_other() {
    let roles = ["gateway", "worker", "admin"];
    for role in roles {
        let path = root().join(format!("crates/hpns/src/serve/{role}.rs"));
        let text = std::fs::read_to_string(path).unwrap();
        for other in roles.iter().filter(|other| **other != role) {
            for path in [format!("super::{other}"), format!("serve::{other}")] {
                assert!(!text.contains(&path), "{role} must not know {other}");
            }
        }
    }
}

#[test]
fn no_crate_brings_a_second_tls_or_crypto_back_end() {
    let tree = ["tree", "--workspace", "--prefix", "none", "--format", "{p}", "--edges", "normal,build"];
    let output = Command::new(env!("CARGO")).args(tree).current_dir(root()).output().unwrap();
    let built = String::from_utf8(output.stdout).unwrap();
    assert!(built.contains("aws-lc-rs "), "{built}");
    for banned in ["ring ", "openssl ", "native-tls ", "a2 "] {
        assert!(!built.lines().any(|line| line.starts_with(banned)), "{banned}is built");
    }
}

/// The short part of `make deny`: what it checks besides needs a tool of its own.
#[test]
fn every_dependency_may_be_used_and_comes_from_the_registry() {
    let rules = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let allowed = rules.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    let allowed: BTreeSet<_> = allowed.split('"').skip(1).step_by(2).collect();
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap();
    let foreign: Vec<_> = metadata.packages.iter().filter(|package| package.source.is_some()).collect();
    assert!(foreign.len() > 200 && allowed.contains("MIT"), "{} {allowed:?}", foreign.len());
    for package in foreign {
        let (name, source) = (&package.name, package.source.as_ref().unwrap());
        assert!(source.is_crates_io(), "{name} comes from {source}");
        let licence = package.license.clone().unwrap_or_default().replace('/', " OR ");
        // `A OR B` may be used under either, `A AND B` under both.
        let may = |one: &str| one.split(" AND ").all(|it| allowed.contains(it.trim_matches(['(', ')', ' '])));
        assert!(licence.split(" OR ").any(may), "{name} is under {licence}");
    }
}

#[test]
fn every_fail_code_is_documented() {
    let api = std::fs::read_to_string(root().join("docs/API.md")).unwrap();
    for reason in push_domain::FailReason::ALL {
        assert!(api.contains(&format!("| `{}` |", reason.code())), "{} is not in docs/API.md", reason.code());
    }
}
