//! `docs/write-your-own-exporter.md` shows this exporter's code: word for word, or not at all.

use std::path::Path;

#[test]
fn the_code_shown_is_the_code_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/write-your-own-exporter.md")).unwrap();
    let mut shown = 0;
    // A block of code that comes from a file is preceded by `<!-- from PATH -->`.
    for part in page.split("<!-- from ").skip(1) {
        let (path, rest) = part.split_once(" -->\n```").expect("a block of code");
        let (_language, rest) = rest.split_once('\n').unwrap();
        let (block, _) = rest.split_once("\n```").expect("the block's end");
        let source = std::fs::read_to_string(root.join(path)).expect(path);
        assert!(source.contains(block), "{path} does not have:\n{block}");
        shown += 1;
    }
    assert!(shown > 5, "the page shows only {shown} blocks");
}
