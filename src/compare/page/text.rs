//! Text as it is put into the page.

use std::fmt;

/// What is written so that it is text, whatever it has in it.
pub struct Text<'t>(pub &'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What a page may not have, or would turn the text around.
                '\u{0}'..='\u{8}'
                | '\u{b}'..='\u{1f}'
                | '\u{7f}'..='\u{9f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => f.write_str("\u{fffd}")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// Units as they are set in print: a thin space that doesn't break before them, and the sign for micro.
pub fn typeset(text: &str) -> String {
    let mut set = String::with_capacity(text.len());
    let mut follows_number = false;
    for word in text.split_inclusive(' ') {
        let bare = word.trim_end_matches(|character: char| !character.is_alphanumeric());
        let is_unit = matches!(bare, "us" | "ms" | "s" | "MiB" | "KiB" | "bytes");
        if follows_number && is_unit {
            set.pop();
            set.push('\u{202f}');
            set.push_str(&word.replacen("us", "µs", usize::from(bare == "us")));
        } else {
            set.push_str(word);
        }
        follows_number =
            word.strip_suffix(' ').is_some_and(|word| word.ends_with(|last: char| last.is_ascii_digit()));
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        let shown = Text("<a href=\"x\" id='y'>&\u{1b}\u{202e}").to_string();
        assert_eq!(shown, "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}\u{fffd}");
    }

    #[test]
    fn units_are_set_close_to_their_number_and_words_are_left() {
        assert_eq!(
            typeset("81.0 us against 1.20 ms; use us"),
            "81.0\u{202f}µs against 1.20\u{202f}ms; use us"
        );
        assert_eq!(typeset("20 MiB, 3 rounds"), "20\u{202f}MiB, 3 rounds");
        assert_eq!(typeset(""), "");
    }
}
