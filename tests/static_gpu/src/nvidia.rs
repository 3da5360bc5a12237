//! Kernels for NVIDIA's GPUs, whose assembler is a package: naga's MSL, read by clang as C++ through `metal_stdlib.h`, to PTX.
//!
//! A stand-in: NVIDIA's Vulkan driver has another front end before the same kind of back end. What it shows are register limits
//! and spills, which are the hardware's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::translate::Translated;

/// The tools, and a folder for what they write.
pub struct Toolchain<'a> {
    pub clang: &'a str,
    pub ptxas: &'a str,
    /// Folder with `metal_stdlib`.
    pub include: &'a str,
    pub folder: &'a Path,
}

impl Toolchain<'_> {
    /// Names and versions of the tools.
    pub fn version(&self) -> Result<String, String> {
        let clang = output(Command::new(self.clang).arg("--version"), "clang")?;
        let ptxas = output(Command::new(self.ptxas).arg("--version"), "ptxas")?;
        let clang = clang.lines().next().unwrap_or_default();
        let ptxas = ptxas.split("Cuda compilation tools, ").nth(1).and_then(|rest| rest.lines().next());
        Ok(format!("{clang}; ptxas {}", ptxas.unwrap_or_default().replace(',', "")))
    }

    /// What ptxas says of a kernel on `chip`, under the names that Mesa has for the same.
    pub fn compile(
        &self,
        kernel: &Translated,
        entry: &str,
        name: &str,
        chip: &str,
    ) -> Result<BTreeMap<String, f64>, String> {
        let path = |ending: &str| self.folder.join(format!("{}.{ending}", name.replace(' ', "_")));
        let [source, ptx, cubin] = ["cpp", "ptx", "cubin"].map(path);
        let text = as_cuda(&kernel.metal()?, entry, kernel.workgroup())?;
        std::fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
        let mut clang = Command::new(self.clang);
        clang.args(["-x", "cuda", "-std=c++17", "--cuda-device-only", "-nocudainc", "-nocudalib", "-nostdinc"]);
        clang.args(["-O3", "-ffp-contract=fast", "-ferror-limit=3", "-w", "-S"]);
        // The older chip of the two: what is written for it runs on the newer.
        clang.arg("--cuda-gpu-arch=sm_80");
        clang.arg("-I").arg(self.include).arg(&source).arg("-o").arg(&ptx);
        output(&mut clang, "clang")?;
        let mut ptxas = Command::new(self.ptxas);
        ptxas.args(["-v", "-O3", &format!("-arch={chip}")]).arg(&ptx).arg("-o").arg(&cubin);
        let said = output(&mut ptxas, "ptxas")?;
        let number = |before: &str| -> Option<f64> {
            said.split(before).next()?.split_whitespace().next_back()?.trim_start_matches(',').parse().ok()
        };
        let mut statistics = BTreeMap::new();
        let mut keep = |name: &str, words: &[&str]| {
            let sum =
                words.iter().map(|words| number(words).ok_or_else(|| format!("ptxas: expected `{words}` in: {said}")));
            sum.sum::<Result<f64, _>>().map(|sum| statistics.insert(name.to_owned(), sum))
        };
        keep("VGPRs", &[" registers"])?;
        keep("Scratch size", &[" bytes stack frame"])?;
        keep("Spilled VGPRs", &[" bytes spill stores", " bytes spill loads"])?;
        // Left out where there is none.
        statistics.insert("LDS size".to_owned(), number(" bytes smem").unwrap_or(0.0));
        Ok(statistics)
    }
}

/// What a tool says on its error stream, where ptxas writes its figures; or its first lines as an error.
fn output(command: &mut Command, name: &str) -> Result<String, String> {
    let done = command.output().map_err(|error| format!("{name}: {error}"))?;
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if done.status.success() {
        return Ok(said);
    }
    let first: Vec<&str> = said.lines().filter(|line| line.contains("error")).take(3).collect();
    Err(format!("{name}: {}", first.join("; ")))
}

/// `text` with each `from` that no letter precedes replaced.
fn replaced_words(text: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let joined = rest[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        out += &rest[..at];
        out += if joined { from } else { to };
        rest = &rest[at + from.len()..];
    }
    out + rest
}

/// naga's MSL as C++ with an entry point that CUDA's machine can start.
fn as_cuda(metal: &str, entry: &str, workgroup: [u32; 3]) -> Result<String, String> {
    let expected = |what: &str| format!("expected {what} in the MSL of {entry}");
    let mut text = metal.to_owned();
    for kind in ["float", "uint", "int", "half", "bool"] {
        for width in 2..=4 {
            text = text.replace(&format!("static_cast<metal::{kind}{width}>("), &format!("metal::make_{kind}{width}("));
            text = text.replace(&format!("metal::{kind}{width}("), &format!("metal::make_{kind}{width}("));
            text = replaced_words(&text, &format!("{kind}{width}("), &format!("metal::make_{kind}{width}("));
        }
    }
    text = text.replace("<half2>", "<metal::half2>");
    let at = text.find("kernel void ").ok_or_else(|| expected("a kernel"))?;
    let start = at + "kernel void ".len();
    let (name, rest) = text[start..].split_once('(').ok_or_else(|| expected("parameters"))?;
    let (parameters, body) = rest.split_once("\n) {").ok_or_else(|| expected("the end of the parameters"))?;
    let mut shared = String::new();
    let (mut declared, mut outer, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    for parameter in parameters.split("\n, ").map(str::trim) {
        let (plain, attribute) = parameter.split_once(" [[").unwrap_or((parameter, ""));
        let (kind, variable) = plain.rsplit_once(' ').ok_or_else(|| expected("a type before a name"))?;
        declared.push(plain.to_owned());
        let attribute = attribute.trim_end_matches("]]");
        passed.push(match attribute {
            "thread_position_in_threadgroup" => "place_in_group()".to_owned(),
            "threadgroup_position_in_grid" => "group_in_grid()".to_owned(),
            "threadgroups_per_grid" => "groups_of_grid()".to_owned(),
            "thread_index_in_threadgroup" => "index_in_group()".to_owned(),
            _ if kind.starts_with("threadgroup") => {
                let of = kind.trim_start_matches("threadgroup").trim_end_matches('&').trim();
                shared += &format!("static IN_GROUP char __attribute__((aligned(16))) s_{variable}[sizeof({of})];\n");
                format!("*({of}*)s_{variable}")
            }
            _ => {
                let of = kind.replace("device", "").replace("constant", "const");
                let of = of.trim().trim_end_matches('&').trim();
                let alone = if of.contains("const") { "__restrict__ " } else { "" };
                outer.push(format!("{of}* {alone}p_{variable}"));
                format!("*p_{variable}")
            }
        });
    }
    let body = format!("{name}(\n  {}\n) {{{body}", declared.join("\n, "));
    let [x, y, z] = workgroup;
    let head = text[..start].rsplit_once("[[").map_or(&text[..start], |(before, _)| before);
    let head = head.trim_end().trim_end_matches("kernel void");
    Ok(format!(
        "{head}\nstatic inline void {body}\n#pragma clang force_cuda_host_device end\n{shared}\n\
         extern \"C\" KERNEL __attribute__((launch_bounds({}, 1))) void run({}) {{ {name}({}); }}\n",
        x * y * z,
        outer.join(", "),
        passed.join(", ")
    ))
}
