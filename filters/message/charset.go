package message

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// decodeCharset makes UTF-8 of text in a charset. Text without charset, or in ASCII, is taken as UTF-8 if it is, else as
// windows-1252, the most common of what is sent undeclared. ok is false if the charset is unknown or the text isn't in it; the
// text is read as far as it can be even so. NUL octets go: clients don't show them.
func decodeCharset(b []byte, charset string) (text string, ok bool) {
	if bytes.IndexByte(b, 0) >= 0 && !strings.HasPrefix(strings.ToLower(charset), "utf-16") && !strings.HasPrefix(strings.ToLower(charset), "utf-32") {
		b = bytes.ReplaceAll(b, []byte{0}, nil)
	}
	name := strings.ToLower(strings.Trim(charset, " \t\"'"))
	switch name {
	case "":
		return guess(b), true
	case "us-ascii", "ascii", "ansi_x3.4-1968", "646":
		return guess(b), isASCII(b)
	case "utf-8", "utf8", "unicode-1-1-utf-8":
		return guess(b), utf8.Valid(b)
	case "utf-7", "unicode-1-1-utf-7":
		return decodeUTF7(b)
	}
	enc := findCharset(name)
	if enc == nil {
		return guess(b), false
	}
	out, err := enc.NewDecoder().Bytes(b)
	if err != nil {
		return guess(b), false
	}
	return strings.ToValidUTF8(string(out), "\uFFFD"), !bytes.Contains(out, []byte("\uFFFD"))
}

// findCharset finds the encoding of a charset by the names that the web and IANA know, nil if there is none.
func findCharset(name string) encoding.Encoding {
	name = strings.TrimSuffix(name, "_charset")
	switch name {
	case "hz-gb-2312", "hz":
		return simplifiedchinese.HZGB2312
	case "utf-16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case "cp932", "ms932":
		name = "shift_jis"
	case "cp936", "gb_2312-80", "gb2312-80":
		name = "gbk"
	case "cp949", "ks_c_5601", "ksc5601":
		name = "euc-kr"
	case "cp950", "chinesebig5":
		name = "big5"
	case "latin-1", "iso8859", "iso-8859", "ansi":
		return charmap.Windows1252
	}
	enc, err := htmlindex.Get(name)
	if err == nil {
		if canonical, err := htmlindex.Name(enc); err == nil && canonical == "replacement" {
			return nil
		}
		return enc
	}
	if enc, err = ianaindex.MIME.Encoding(name); err == nil && enc != nil {
		return enc
	}
	if rest, ok := strings.CutPrefix(name, "cp"); ok {
		if enc, err = ianaindex.MIME.Encoding("windows-" + rest); err == nil && enc != nil {
			return enc
		}
	}
	return nil
}

// guess makes UTF-8 of bytes: what is UTF-8 stays, other bytes are read as windows-1252.
func guess(b []byte) string {
	b = bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	out.Grow(len(b) + len(b)/8)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(b[0])
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// decodeUTF7 decodes UTF-7 (RFC 2152): runs of base64 of UTF-16 between "+" and "-".
func decodeUTF7(b []byte) (text string, ok bool) {
	var out strings.Builder
	ok = true
	for len(b) > 0 {
		i := bytes.IndexByte(b, '+')
		if i < 0 {
			break
		}
		out.WriteString(guess(b[:i]))
		b = b[i+1:]
		n := 0
		for n < len(b) && base64Values[b[n]] < 64 {
			n++
		}
		if n == 0 {
			ok = ok && len(b) > 0 && b[0] == '-'
			out.WriteByte('+')
		} else {
			var d base64Decoder
			units := d.finish(d.decode(nil, b[:n]))
			units = units[:len(units)/2*2]
			s, err := unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder().Bytes(units)
			ok = ok && err == nil
			out.Write(s)
		}
		b = bytes.TrimPrefix(b[n:], []byte("-"))
	}
	out.WriteString(guess(b))
	return strings.ToValidUTF8(out.String(), "\uFFFD"), ok
}
