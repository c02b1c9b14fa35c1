package message

import (
	"strings"
	"testing"
)

func TestLinkTricks(t *testing.T) {
	for _, c := range []struct{ url, host, want, reason string }{
		{url: "https://www.example.org/a@b", host: "www.example.org", reason: "an @ in the path hides nothing"},
		{url: "https://bank.example@evil.example/", host: "evil.example", want: "user", reason: "a user like a host"},
		{url: "http://192.0.2.7/", host: "192.0.2.7", want: "ip", reason: "an address"},
		{url: "http://192.0.2.7:80/", host: "192.0.2.7", want: "ip", reason: "an address with its usual port"},
		{url: "http://[2001:db8::1]:8080/", host: "2001:db8::1", want: "port ip", reason: "an IPv6 address with a port"},
		{url: "http://0xC0.0x00.0x02.0x07/", host: "192.0.2.7", want: "ip odd_ip", reason: "hexadecimal"},
		{url: "http://3221225991/", host: "192.0.2.7", want: "ip odd_ip", reason: "one number"},
		{url: "https://example.org:8443/", host: "example.org", want: "port", reason: "a port"},
		{url: "https://xn--bcher-kva.example/", host: "xn--bcher-kva.example", want: "punycode", reason: "honest German"},
		{url: "https://pаypal.example/", host: "xn--pypal-4ve.example", want: "punycode mixed_script", reason: "a Cyrillic а among Latin letters"},
		{url: "https://%65vil.example/", host: "evil.example", want: "encoded_host", reason: "an e in hexadecimal"},
		{url: `https:\\evil.example\a`, host: "evil.example", want: "backslash", reason: "backslashes"},
	} {
		l, ok := parseLink(c.url)
		if got := strings.Join(l.Tricks, " "); !ok || l.Host != c.host || got != c.want {
			t.Errorf("%s: %s: %s %q, want %s %q", c.reason, c.url, l.Host, got, c.host, c.want)
		}
	}
}

func TestDisguise(t *testing.T) {
	for _, c := range []struct {
		text   string
		want   Disguise
		reason string
	}{
		{text: "Your password", reason: "plain"},
		{text: "pass\u200bword ac\u200b\u200dcount", want: Disguise{Invisible: 3}, reason: "in words"},
		{text: "end\u200b. \u200bbegin \u200c\u200c\u200c", reason: "between words, as in the preview of a newsletter"},
		{text: "می\u200cخواهم", reason: "Persian needs it"},
		{text: "co\u00adoperation", reason: "a soft hyphen"},
		{text: "pаypаl and Аpple", want: Disguise{Mixed: 2}, reason: "Cyrillic letters in Latin words"},
		{text: "Привет, Paypal! SMS-ка", reason: "words of either alphabet"},
		{text: "10µm and naïve", reason: "accents, and the sign for micro"},
	} {
		if got := disguise(c.text); got != c.want {
			t.Errorf("%s: %q: %+v, want %+v", c.reason, c.text, got, c.want)
		}
	}
}

func TestActive(t *testing.T) {
	const page = `<html><body onload="go()"><a href="javascript:x()">a</a><form action="data:text/html,x"><input type=" Password "></form>
<script>var b = atob("aGk="); window.location = b; URL.createObjectURL(new Blob([b]))</script><iframe src="http://a.example/"></iframe>
<span style="display:none">one</span><span style="font-size:0">two</span><font color="#fff">three</font></body></html>`
	m := read(t, []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"+page+
		"\r\n--b\r\nContent-Type: application/octet-stream; name=\"x.SVG\"\r\n\r\n<svg xmlns=\"http://www.w3.org/2000/svg\"><script>eval(1)</script>"+
		"<a xlink:href=\"http://svg.example/\">x</a></svg>\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>plain</p>\r\n--b--\r\n"))
	if got, want := strings.Join(m.Active(), " "), "handler script form data_uri password unpack download redirect frame"; !sameWords(got, want) {
		t.Errorf("shown: %s, want %s", got, want)
	}
	if got := strings.Join(m.ActiveIn("1.2"), " "); got != "script unpack" {
		t.Errorf("attached: %s", got)
	}
	if got := strings.Join(m.HiddenBy(), " "); got != "display size colour" {
		t.Errorf("hidden by %s", got)
	}
	found := false
	for _, l := range m.Links() {
		found = found || l.Host == "svg.example" && l.Source == "attachment"
	}
	if !found || strings.Contains(m.Text(), "svg") {
		t.Errorf("links %+v, text %q", m.Links(), m.Text())
	}
}

func sameWords(a, b string) bool {
	count := map[string]int{}
	for _, w := range strings.Fields(a) {
		count[w]++
	}
	for _, w := range strings.Fields(b) {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
