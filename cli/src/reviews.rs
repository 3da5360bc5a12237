//! Files of one text, or one label, per line.

use std::io::Read as _;
use std::path::Path;

use crate::Result;
use crate::units::count;

/// Whether `path` stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The name of the file in messages.
pub fn name(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// The lines of a UTF-8 file, at least one.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let name = name(path);
    let mut bytes = Vec::new();
    if is_stdin(path) {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|content| bytes = content)
    }
    .map_err(|error| format!("{name}: {error}"))?;
    let text = utf8(&name, &bytes)?;
    if text.is_empty() {
        return Err(format!("{name}: expected at least one line, got an empty file").into());
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned()).collect())
}

/// The text without a byte order mark.
fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let line = bytes[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1;
        let byte = bytes[offset];
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let hint = if utf16 { "; this looks like UTF-16" } else { "" };
        format!("{name}, line {line}: expected UTF-8, got byte 0x{byte:02x} at offset {offset} of the file{hint}")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The correct answers: the index of the label of every text.
pub fn labels(path: &Path, known: &[String], texts: usize) -> Result<Vec<usize>> {
    let name = name(path);
    let lines = lines(path)?;
    let found = lines.iter().enumerate().map(|(index, line)| {
        known.iter().position(|label| label == line.trim()).ok_or_else(|| {
            let (number, got) = (index + 1, crate::units::shortened(line, 40));
            format!("{name}, line {number}: expected one of the model's labels ({}), got {got:?}", known.join(", "))
        })
    });
    let found: Vec<usize> = found.collect::<std::result::Result<_, _>>()?;
    if found.len() != texts {
        return Err(format!("{name}: expected {}, one per text, got {}", count(texts, "label"), found.len()).into());
    }
    Ok(found)
}
