//! Everything that is made from a source file stays equal to it: the protobuf types from the schema, the error type and
//! the table in SPEC.md from `errors.toml`. `BLESS=1 cargo test -p postrider-protocol --test generated` rewrites them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct Errors {
    error: Vec<ErrorRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorRow {
    code: u32,
    name: String,
    retry: bool,
    closes: bool,
    meaning: String,
    remedy: String,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn errors() -> Vec<ErrorRow> {
    let text = std::fs::read_to_string(here("errors.toml")).expect("errors.toml is readable");
    toml::from_str::<Errors>(&text).expect("errors.toml is well-formed").error
}

/// Compares, or rewrites when blessing.
fn check(path: &str, wanted: &str) {
    let file = here(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, wanted).expect("the generated file is writable");
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is not what its source makes; run: BLESS=1 cargo test -p postrider-protocol --test generated"
    );
}

/// `BAD_FRAME` → `BadFrame`
fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_string() + &word[1..].to_lowercase()).collect()
}

#[test]
fn the_protobuf_types_are_made_from_the_schema() {
    let descriptors = protox::compile([here("schema/postrider.proto")], [here("schema")]).expect("the schema compiles");
    let out = tempfile_dir();
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&out)
        .compile_fds(descriptors)
        .expect("prost generates from the schema");
    let made = std::fs::read_to_string(out.join("postrider.v1.rs")).expect("prost wrote one file");
    std::fs::remove_dir_all(&out).ok();
    check("src/generated/wire.rs", &made);
}

fn tempfile_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("postrider-generated-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    dir
}

#[test]
fn the_error_type_is_made_from_errors_toml() {
    let mut code = String::from(
        "// Made from errors.toml; change that file.\n\n\
         /// Every error the protocol can speak; SPEC.md has the same table (ERR-1).\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\n#[repr(u32)]\npub enum ErrorCode {\n",
    );
    let rows = errors();
    for row in &rows {
        writeln!(code, "    /// {}\n    {} = {},", row.meaning, camel(&row.name), row.code).unwrap();
    }
    code.push_str("}\n\nimpl ErrorCode {\n    /// Every code, in the order of their numbers.\n    pub const ALL: &[ErrorCode] = &[\n");
    for row in &rows {
        writeln!(code, "        ErrorCode::{},", camel(&row.name)).unwrap();
    }
    code.push_str("    ];\n\n");
    let mut column = |doc: &str, signature: &str, cell: &dyn Fn(&ErrorRow) -> String| {
        writeln!(code, "    /// {doc}\n    #[must_use]\n    pub const fn {signature} {{\n        match self {{")
            .unwrap();
        for row in &rows {
            writeln!(code, "            ErrorCode::{} => {},", camel(&row.name), cell(row)).unwrap();
        }
        code.push_str("        }\n    }\n\n");
    };
    column("The name on the wire.", "name(self) -> &'static str", &|row| format!("{:?}", row.name));
    column("Whether the same request may succeed later.", "retry(self) -> bool", &|row| row.retry.to_string());
    column("Whether the server closes the connection.", "closes(self) -> bool", &|row| row.closes.to_string());
    column("What happened, in a sentence.", "meaning(self) -> &'static str", &|row| format!("{:?}", row.meaning));
    column("What the client does, in a sentence.", "remedy(self) -> &'static str", &|row| format!("{:?}", row.remedy));
    code.truncate(code.len() - 1);
    code.push_str("}\n");
    check("src/generated/errors.rs", &code);
}

#[test]
fn the_error_table_in_the_spec_is_made_from_errors_toml() {
    const BEGIN: &str = "<!-- errors: made from errors.toml -->\n";
    const END: &str = "<!-- /errors -->";
    let spec = std::fs::read_to_string(here("SPEC.md")).expect("SPEC.md is readable");
    let (before, rest) = spec.split_once(BEGIN).expect("SPEC.md has the table's begin marker");
    let (_, after) = rest.split_once(END).expect("SPEC.md has the table's end marker");
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let mut table = String::from(
        "| code | name | retry | closes | what happened | what the client does |\n|---|---|---|---|---|---|\n",
    );
    for row in errors() {
        let ErrorRow { code, name, retry, closes, meaning, remedy } = row;
        writeln!(table, "| {code} | `{name}` | {} | {} | {meaning} | {remedy} |", yes(retry), yes(closes)).unwrap();
    }
    check("SPEC.md", &format!("{before}{BEGIN}{table}{END}{after}"));
}

#[test]
fn error_codes_are_unique_and_ascending() {
    let codes: Vec<u32> = errors().iter().map(|row| row.code).collect();
    assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
}
