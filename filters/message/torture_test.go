package message

import (
	"encoding/base64"
	"strings"
	"testing"
)

// What is damaged still yields its text and its links, as it would to the reader of the mail: each of these has the words "the needle" in what
// is seen, or a link to needle.example, or both.
func TestDamagedMailYieldsItsText(t *testing.T) {
	const text = "the needle https://needle.example/x"
	const page = "<p>the <b>needle</b> <a href=\"https://needle.example/x\">here</a></p>"
	b64 := base64.StdEncoding.EncodeToString([]byte(text))
	html := func(body string) string { return sound + "Content-Type: text/html; charset=utf-8\r\n\r\n" + body }
	for _, c := range []struct {
		why, message string
		noText       bool // it has the link only
	}{
		{why: "a multipart that names no boundary", message: sound + "Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\n" + text + "\r\n--x--\r\n"},
		{why: "a boundary that does not occur", message: sound + "Content-Type: multipart/mixed; boundary=y\r\n\r\n--x\r\n\r\n" + text + "\r\n--x--\r\n"},
		{why: "no closing boundary", message: mixed + "--b\r\n\r\n" + text + "\r\n"},
		{why: "a part after the closing boundary", message: mixed + "--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\n" + text + "\r\n--b--\r\n"},
		{why: "a boundary with white space after it", message: mixed + "--b  \t\r\n\r\n" + text + "\r\n--b-- \r\n"},
		{why: "a boundary in quotes that do not end", message: sound + "Content-Type: multipart/mixed; boundary=\"b\r\n\r\n--b\r\n\r\n" + text + "\r\n--b--\r\n"},
		{why: "two boundaries", message: sound + "Content-Type: multipart/mixed; boundary=b; boundary=c\r\n\r\n--b\r\n\r\n" + text + "\r\n--b--\r\n"},
		{why: "a multipart below a multipart of the same boundary", message: mixed + "--b\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n" + text + "\r\n--b--\r\n"},
		{why: "a multipart in base64, which is not allowed", message: sound + "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n--b\r\n\r\n" + text + "\r\n--b--\r\n"},
		{why: "forty multiparts in each other", message: sound + numbered("Content-Type: multipart/mixed; boundary=b%[1]d\r\n\r\n--b%[1]d\r\n", 40) + "\r\n" + text + "\r\n"},
		{why: "a message in a message", message: sound + "Content-Type: message/rfc822\r\n\r\n" + sound + "\r\n" + text},
		{why: "a header section without its end", message: sound + text},
		{why: "no header but a body", message: "\r\n" + text},
		{why: "two types of content, the first is text", message: sound + "Content-Type: text/plain\r\nContent-Type: application/zip\r\n\r\n" + text},
		{why: "a type that is none", message: sound + "Content-Type: foo\r\n\r\n" + text},
		{why: "a type of text that nobody knows", message: sound + "Content-Type: text/x-unknown\r\n\r\n" + text},
		{why: "an unknown encoding", message: sound + "Content-Transfer-Encoding: foo\r\n\r\n" + text},
		{why: "an encoding with a comment", message: sound + "Content-Transfer-Encoding: base64 (really)\r\n\r\n" + b64},
		{why: "base64 with characters that do not belong", message: sound + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.ReplaceAll(b64, "d", "*d!")},
		{why: "base64 without padding, in one line", message: sound + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.TrimRight(b64, "=")},
		{why: "base64 and text after it", message: sound + "Content-Transfer-Encoding: base64\r\n\r\n" + b64 + "\r\n\r\n-- \r\nsent by nobody"},
		{why: "broken quoted-printable", message: sound + "Content-Transfer-Encoding: quoted-printable\r\n\r\nthe=20nee=\r\ndle =ZZ = https://needle.example/x=3"},
		{why: "an unknown charset", message: sound + "Content-Type: text/plain; charset=x-none\r\n\r\n" + text},
		{why: "octets that are not of the charset", message: sound + "Content-Type: text/plain; charset=utf-8\r\n\r\n\xff\xfe " + text},
		{why: "UTF-16 with a mark of its order", message: sound + "Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString(append([]byte("\xff\xfe"), utf16LE(text)...))},
		{why: "a NUL in the text", message: sound + "\r\nthe needle \x00 https://needle.example/x"},
		{why: "line ends that are LF alone", message: strings.ReplaceAll(mixed+"--b\r\n\r\n"+text+"\r\n--b--\r\n", "\r\n", "\n")},
		{why: "a line of a megabyte before it", message: sound + "\r\n" + strings.Repeat("x", 900_000) + "\r\n" + text},
		{why: "format=flowed, in soft lines", message: sound + "Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\n" + text + " \r\nmore"},
		{why: "an inline text with a name", message: sound + "Content-Type: text/plain; name=a.txt\r\nContent-Disposition: inline; filename=a.txt\r\n\r\n" + text},

		{why: "elements that are never closed", message: html("<html><body><table><tr><td><p>the <b>needle <a href=https://needle.example/x>here")},
		{why: "a tag that does not end, after it", message: html(page + "<a href=\"")},
		{why: "a comment that ends at once", message: html("<!-->" + page)},
		{why: "a comment that ends oddly", message: html("<!-- x --!>" + page)},
		{why: "a style that is empty", message: html("<style/></style>" + page)},
		{why: "a title that is closed late", message: html("<title>x</title >" + page)},
		{why: "upper case and white space", message: html("<P >the <B\t>needle</B> <A\r\nHREF = 'https://needle.example/x'>here</A></P>")},
		{why: "letters of the link as references", message: html("the needle <a href=\"&#104;&#x74;tps&colon;//needle.example&sol;x\">here</a>")},
		{why: "a link over lines", message: html("the needle <a href=\"ht\r\ntps://nee\tdle.example/x\">here</a>")},
		{why: "a link without a scheme", message: html("the needle <a href=\"//needle.example/x\">here</a>")},
		{why: "a link with backslashes", message: html(`the needle <a href="https:\\needle.example\x">here</a>`)},
		{why: "a link below a base", message: html("<base href=\"https://needle.example/\">the needle <a href=x>here</a>")},
		{why: "an area of a map", message: html("the needle <map><area href=\"https://needle.example/x\"></map>")},
		{why: "a form", message: html("the needle <form action=\"https://needle.example/x\"><input></form>")},
		{why: "a button of its own target", message: html("the needle <form><button formaction=\"https://needle.example/x\">go</button></form>")},
		{why: "a page that leads on", message: html("the needle <meta http-equiv=refresh content=\"0; url='https://needle.example/x'\">")},
		{why: "a link in a drawing", message: html("the needle <svg><a xlink:href=\"https://needle.example/x\"><text>x</text></a></svg>")},
		{why: "what Outlook alone shows", message: html("<!--[if mso]><p>the needle</p><a href=\"https://needle.example/x\">here</a><![endif]-->"), noText: true},
		{why: "what all but Outlook show", message: html("<![if !mso]>" + page + "<![endif]>")},
		{why: "a drawn button of Outlook", message: html("the needle <v:roundrect href=\"https://needle.example/x\">go</v:roundrect>")},
		{why: "a page under a type that is dynamic", message: sound + "Content-Type: text/x-amp-html\r\n\r\n" + page},
		{why: "a page as XHTML", message: sound + "Content-Type: application/xhtml+xml\r\n\r\n" + page},
		{why: "a page whose charset only the page tells", message: sound + "Content-Type: text/html\r\n\r\n<meta charset=windows-1251>\xef\xf0\xe8" + page},
		{why: "a page in a frame", message: html("the needle <iframe src=\"https://needle.example/x\"></iframe>")},
		{why: "a text within a text area", message: html("<textarea>the needle</textarea><a href=https://needle.example/x>x</a>")},
	} {
		t.Run(c.why, func(t *testing.T) {
			m := read(t, []byte(c.message))
			if m.Err() != nil {
				t.Fatal(m.Err())
			}
			if seen := strings.Contains(strings.Join(strings.Fields(m.Text()), " "), "the needle"); seen == c.noText {
				t.Errorf("the text is %.200q", m.Text())
			}
			found := false
			for _, l := range m.Links() {
				found = found || l.Host == "needle.example"
			}
			if !found {
				t.Errorf("the links are %v", m.Links())
			}
		})
	}
}
