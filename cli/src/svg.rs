//! What the plots have in common.

use gatefold::printable;

/// Colours that are distinguishable with colour vision deficiency (Okabe and Ito).
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"];

/// The start of a picture of `[width, height]`: its title and, smaller, what is seen. The element is left open.
pub fn head([width, height]: [f64; 2], left: f64, title: &str, what: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"14\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"30\" font-size=\"19\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{left}\" y=\"52\" fill=\"#666\">{}; gatefold {}</text>\n",
        escaped(title),
        escaped(what),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Text as XML.
pub fn escaped(text: &str) -> String {
    printable(text, 200).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
