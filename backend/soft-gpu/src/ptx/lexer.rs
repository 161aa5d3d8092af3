//! Splits PTX text into words, numbers, strings and punctuation, each with its line.

use super::CompileError;

/// A literal number, as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Integer; a negative one has been negated in 64 bits.
    Int(u64),
    /// `0f…`: the bits of a single.
    F32(u32),
    /// `0d…` or a decimal fraction: the bits of a double.
    F64(u64),
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// Identifier, directive (`.reg`) or opcode with its modifiers (`ld.global.u32`).
    Word(&'a str),
    /// Literal.
    Number(Number),
    /// Text between quotes, escapes as written.
    Text(&'a str),
    /// Any other single character.
    Punct(u8),
    /// End of the source.
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => {
                let end = word.char_indices().nth(80).map_or(word.len(), |(at, _)| at);
                write!(f, "'{}'", word.get(..end).unwrap_or(word))
            }
            Self::Number(_) => f.write_str("a number"),
            Self::Text(_) => f.write_str("a string"),
            Self::Punct(c) => write!(f, "'{}'", char::from(*c).escape_default()),
            Self::End => f.write_str("the end of the source"),
        }
    }
}

/// Token stream with one token of look-ahead.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    text_line: u32,
    token: Token<'a>,
    /// Line of `token`.
    line: u32,
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn continues_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'.')
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, CompileError> {
        let mut lexer = Self { text, at: 0, text_line: 1, token: Token::End, line: 1 };
        lexer.advance()?;
        Ok(lexer)
    }

    /// The token that [`Lexer::next`] will return.
    pub(crate) fn peek(&self) -> Token<'a> {
        self.token
    }

    /// Line of [`Lexer::peek`].
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Takes the current token.
    pub(crate) fn next(&mut self) -> Result<Token<'a>, CompileError> {
        let token = self.token;
        self.advance()?;
        Ok(token)
    }

    /// An error at the current token's line.
    pub(crate) fn error<T>(&self, message: impl Into<String>) -> Result<T, CompileError> {
        Err(CompileError { line: self.line, message: message.into() })
    }

    /// Takes the punctuation `c` if it is next.
    pub(crate) fn eat(&mut self, c: u8) -> Result<bool, CompileError> {
        let found = self.token == Token::Punct(c);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes the punctuation `c` or fails.
    pub(crate) fn expect(&mut self, c: u8) -> Result<(), CompileError> {
        if self.eat(c)? {
            return Ok(());
        }
        let found = self.token;
        self.error(format!("expected '{}', found {found}", char::from(c)))
    }

    /// Takes the word `word` if it is next.
    pub(crate) fn eat_word(&mut self, word: &str) -> Result<bool, CompileError> {
        let found = self.token == Token::Word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes a word or fails, saying what was expected.
    pub(crate) fn word(&mut self, what: &str) -> Result<&'a str, CompileError> {
        match self.token {
            Token::Word(word) => {
                self.advance()?;
                Ok(word)
            }
            found => self.error(format!("expected {what}, found {found}")),
        }
    }

    /// Skips to the end of the current line of text (for debug directives).
    pub(crate) fn skip_line(&mut self) -> Result<(), CompileError> {
        let line = self.line;
        while self.line == line && self.token != Token::End {
            self.advance()?;
        }
        Ok(())
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn take_while(&mut self, mut belongs: impl FnMut(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.byte(0).is_some_and(&mut belongs) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or("")
    }

    fn skip_blank(&mut self) -> Result<(), CompileError> {
        while let Some(c) = self.byte(0) {
            match (c, self.byte(1)) {
                (b'\n', _) => {
                    self.text_line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'/', Some(b'/')) => {
                    self.take_while(|c| c != b'\n');
                }
                (b'/', Some(b'*')) => {
                    let start = self.text_line;
                    self.at += 2;
                    loop {
                        match (self.byte(0), self.byte(1)) {
                            (Some(b'*'), Some(b'/')) => break self.at += 2,
                            (Some(c), _) => {
                                self.text_line += u32::from(c == b'\n');
                                self.at += 1;
                            }
                            (None, _) => {
                                let message = "comment without end".into();
                                return Err(CompileError { line: start, message });
                            }
                        }
                    }
                }
                // A line of preprocessor output or of DWARF in the old style.
                (b'#', _) | (b'@', Some(b'@')) => {
                    self.take_while(|c| c != b'\n');
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), CompileError> {
        self.skip_blank()?;
        self.line = self.text_line;
        self.token = match self.byte(0) {
            None => Token::End,
            Some(0) => {
                // Images are handed over with their terminating NUL, at times several.
                self.at = self.text.len();
                Token::End
            }
            Some(c) if c.is_ascii_digit() => self.number()?,
            Some(c) if starts_word(c) => Token::Word(self.take_word()),
            Some(b'"') => {
                self.at += 1;
                let text = self.take_while(|c| c != b'"' && c != b'\n');
                if self.byte(0) != Some(b'"') {
                    return self.error("string without end");
                }
                self.at += 1;
                Token::Text(text)
            }
            Some(c) if c.is_ascii_graphic() => {
                self.at += 1;
                Token::Punct(c)
            }
            Some(c) => return self.error(format!("byte 0x{c:02x} does not belong in PTX")),
        };
        Ok(())
    }

    fn take_word(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        loop {
            self.take_while(continues_word);
            // `.shared::cta`, `.L2::128B`
            let qualifies = self.byte(0) == Some(b':')
                && self.byte(1) == Some(b':')
                && self.byte(2).is_some_and(|c| c.is_ascii_alphanumeric());
            if !qualifies {
                return self.text.get(start..self.at).unwrap_or("");
            }
            self.at += 2;
        }
    }

    fn number(&mut self) -> Result<Token<'a>, CompileError> {
        let word = {
            let start = self.at;
            self.take_while(|c| c.is_ascii_alphanumeric());
            let decimal =
                self.text.get(start..self.at).is_some_and(|w| w.bytes().all(|c| c.is_ascii_digit()));
            if decimal && self.byte(0) == Some(b'.') && self.byte(1).is_none_or(|c| c.is_ascii_digit()) {
                self.at += 1;
                self.take_while(|c| c.is_ascii_alphanumeric());
                let exponent = self.text.get(start..self.at).is_some_and(|w| w.ends_with(['e', 'E']));
                if exponent && matches!(self.byte(0), Some(b'+' | b'-')) {
                    self.at += 1;
                    self.take_while(|c| c.is_ascii_digit());
                }
            }
            self.text.get(start..self.at).unwrap_or("")
        };
        match parse_number(word) {
            Some(number) => Ok(Token::Number(number)),
            None => self.error(format!("malformed number {}", Token::Word(word))),
        }
    }
}

fn parse_number(word: &str) -> Option<Number> {
    if let Some(digits) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok().map(Number::F32))?;
    }
    if let Some(digits) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok().map(Number::F64))?;
    }
    let hexadecimal = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    if hexadecimal.is_none() && (word.contains('.') || word.contains(['e', 'E'])) {
        return word.parse::<f64>().ok().map(|v| Number::F64(v.to_bits()));
    }
    let plain = |digits: &str, radix| u64::from_str_radix(digits.trim_end_matches(['U', 'u']), radix).ok();
    let value = if let Some(digits) = hexadecimal {
        plain(digits, 16)
    } else if let Some(digits) = word.strip_prefix("0b").or_else(|| word.strip_prefix("0B")) {
        plain(digits, 2)
    } else if word.len() > 1 && word.starts_with('0') && word != "0U" {
        plain(word.get(1..)?, 8)
    } else {
        plain(word, 10)
    };
    value.map(Number::Int)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text).expect("first token");
        let mut found = Vec::new();
        while lexer.peek() != Token::End {
            found.push(format!("{:?}@{}", lexer.next().expect("token"), 0));
        }
        found
    }

    #[test]
    fn an_opcode_with_qualifiers_is_one_word() {
        let mut lexer = Lexer::new("ld.shared::cta.u32 %r1, [%rd2+-4]; $L__1: bra $L__1;").expect("lexes");
        assert_eq!(lexer.next(), Ok(Token::Word("ld.shared::cta.u32")));
        assert_eq!(lexer.next(), Ok(Token::Word("%r1")));
        for _ in 0..7 {
            lexer.next().expect("token");
        }
        assert_eq!(lexer.next(), Ok(Token::Punct(b';')));
        assert_eq!(lexer.next(), Ok(Token::Word("$L__1")));
        assert_eq!(lexer.next(), Ok(Token::Punct(b':')));
    }

    #[test]
    fn numbers_of_every_radix() {
        for (text, value) in [
            ("0", Number::Int(0)),
            ("42U", Number::Int(42)),
            ("0x1fU", Number::Int(31)),
            ("017", Number::Int(15)),
            ("0b101", Number::Int(5)),
            ("18446744073709551615", Number::Int(u64::MAX)),
            ("0f3F800000", Number::F32(0x3f80_0000)),
            ("0d3FF0000000000000", Number::F64(1.0f64.to_bits())),
            ("1.5", Number::F64(1.5f64.to_bits())),
            ("2.5e-3", Number::F64(2.5e-3f64.to_bits())),
        ] {
            assert_eq!(Lexer::new(text).expect(text).peek(), Token::Number(value), "{text}");
        }
        for text in ["0f3F80", "0xzz", "99999999999999999999", "12ab", "0d0"] {
            assert!(Lexer::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_are_counted_through_comments() {
        let mut lexer = Lexer::new("a // x\n/* \n\n */ b\nc").expect("lexes");
        let mut lines = Vec::new();
        while lexer.peek() != Token::End {
            lines.push(lexer.line());
            lexer.next().expect("token");
        }
        assert_eq!(lines, [1, 4, 5]);
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        assert!(Lexer::new("/* abc").is_err());
        assert!(Lexer::new("\"abc").is_err());
        assert_eq!(tokens("a\0b\u{1}"), ["Word(\"a\")@0"]);
    }
}
