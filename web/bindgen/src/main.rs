//! Writes the JavaScript that belongs to a wasm file: what the command `wasm-bindgen --target web` does, which is not installed
//! everywhere.

use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder, name] = &arguments[..] else {
        anyhow::bail!("expected INPUT.wasm FOLDER NAME, got {} arguments", arguments.len());
    };
    let mut bindgen = Bindgen::new();
    bindgen.web(true)?.typescript(false).remove_name_section(true).remove_producers_section(true);
    bindgen.input_path(input).out_name(name).generate(folder)
}
