package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"postern/filters/message"
	"postern/filters/message/mailbox"
)

// A benchMessage is one message to be sent, again and again.
type benchMessage struct {
	from    string // domain of the reverse-path
	sender  int    // which of the sending sites sends it
	size    int    // bytes, before dots are doubled
	stuffed []byte // as it goes over the wire, the final dot included
}

// benchMail is what is sent, and the keys with which it was signed.
type benchMail struct {
	messages []benchMessage
	keys     []benchKey
}

// A benchKey is a signing key and its record.
type benchKey struct {
	signer crypto.Signer
	record string
}

// Of the made mix.
const (
	benchMessages  = 400
	benchMedian    = 4 << 10
	benchMean      = 15 << 10
	benchUnsigned  = 5 // one in so many is not signed
	benchSmallest  = 1500
	benchSignature = 700 // bytes that the signature adds, and the text exceeds its size by
	benchRcpt      = "bench.example"
	benchSeed      = 5321
	benchLongest   = 1 << 20
	benchHTMLFrom  = 3 << 10 // bytes from which a message has an HTML part
	benchFilesFrom = 24 << 10
)

// madeMail makes a mix as mail servers see it: sizes log-normal with the median and mean above, four in five signed,
// plain text where small, text and HTML in the middle, attachments where large. The bytes are the same at each call,
// but for the signatures, whose keys are new. Of the whole mix the first most are made.
func madeMail(most int) (*benchMail, error) {
	keys, err := benchKeys()
	if err != nil {
		return nil, err
	}
	mail := &benchMail{keys: keys}
	random := mathrand.New(mathrand.NewPCG(benchSeed, benchMessages))
	for i, size := range benchSizes()[:min(most, benchMessages)] {
		raw := benchText(random, i, size-benchSignature)
		if i%benchUnsigned != 0 {
			if raw, err = benchSign(raw, benchDomain(i), mail.key(i)); err != nil {
				return nil, fmt.Errorf("signing: %w", err)
			}
		}
		mail.messages = append(mail.messages, newBenchMessage(raw, benchDomain(i), i))
	}
	return mail, nil
}

func newBenchMessage(raw []byte, from string, sender int) benchMessage {
	return benchMessage{from: from, sender: sender, size: len(raw), stuffed: append(stuffed(raw), ".\r\n"...)}
}

// key is the one with which the domain of site i signs.
func (m *benchMail) key(i int) benchKey { return m.keys[i%len(m.keys)] }

// benchSizes are the quantiles of the log-normal distribution, in an order that mixes large and small.
func benchSizes() []int {
	sigma := math.Sqrt(2 * math.Log(float64(benchMean)/benchMedian))
	sizes := make([]int, benchMessages)
	for i := range sizes {
		place := (float64(i) + 0.5) / benchMessages
		z := math.Sqrt2 * math.Erfinv(2*place-1)
		size := benchMedian * math.Exp(sigma*z)
		sizes[i*173%benchMessages] = int(min(max(size, benchSmallest), benchLongest)) // 173 has no factor in common with 400
	}
	return sizes
}

// benchKeys makes the keys: RSA with 2048 bits, as most signatures have.
func benchKeys() ([]benchKey, error) {
	var keys []benchKey
	for range 2 {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		public, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		keys = append(keys, benchKey{signer: private, record: "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)})
	}
	return keys, nil
}

// benchSelector is where the sites publish their keys.
const benchSelector = "s1"

func benchSign(raw []byte, domain string, key benchKey) ([]byte, error) {
	var signed bytes.Buffer
	err := dkim.Sign(&signed, bytes.NewReader(raw), &dkim.SignOptions{
		Domain:                 domain,
		Selector:               benchSelector,
		Signer:                 key.signer,
		Hash:                   crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed,
		BodyCanonicalization:   dkim.CanonicalizationRelaxed,
		HeaderKeys:             []string{"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"},
	})
	return signed.Bytes(), err
}

// benchText writes a message of about size bytes.
func benchText(random *mathrand.Rand, i, size int) []byte {
	w := &benchWriter{random: random}
	domain := benchDomain(i)
	fmt.Fprintf(&w.b, "Received: from app%d.%s (app%d.%s [10.1.%d.%d])\r\n\tby %s (Postfix) with ESMTPS id %08X\r\n\tfor <user%d@%s>; Mon, 23 Nov 2026 10:%02d:%02d +0000 (UTC)\r\n",
		i%3, domain, i%3, domain, i%250, i%7, benchHost(i), random.Uint32(), i, benchRcpt, i%60, i*7%60)
	fmt.Fprintf(&w.b, "From: \"%s %s\" <news@%s>\r\nTo: <user%d@%s>\r\nSubject: %s\r\nDate: Mon, 23 Nov 2026 10:%02d:%02d +0000\r\nMessage-ID: <%d.%08x@%s>\r\nMIME-Version: 1.0\r\n",
		w.word(), w.word(), domain, i, benchRcpt, w.words(5), i%60, i*7%60, i, random.Uint32(), domain)
	fmt.Fprintf(&w.b, "List-Unsubscribe: <https://www.%s/leave/%d>\r\nX-Mailer: bench %d\r\n", domain, i, i%9)
	switch body := max(size-w.b.Len(), 100); {
	case size < benchHTMLFrom:
		w.b.WriteString("Content-Type: text/plain; charset=utf-8\r\n\r\n")
		w.plain(body, domain)
	case size < benchFilesFrom:
		w.alternative(body, domain)
	default:
		w.b.WriteString("Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\n--outer\r\n")
		w.alternative(benchHTMLFrom, domain)
		w.b.WriteString("--outer\r\nContent-Type: application/pdf; name=\"report.pdf\"\r\nContent-Disposition: attachment; filename=\"report.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		w.attachment(body - benchHTMLFrom)
		w.b.WriteString("--outer--\r\n")
	}
	return w.b.Bytes()
}

// A benchWriter writes text that means nothing.
type benchWriter struct {
	random *mathrand.Rand
	b      bytes.Buffer
}

// benchWords are the words of the made messages.
var benchWords = strings.Fields(`the of and to in a is that for it as was with be by on not he his but at are this have
	from or had an they which one you were all her she there would their we him been has when who will no more if out so
	up said what its about than into them can only other time new some could these two may first then do any like my now
	over such our man me even most made after also did many off before must well back through years much where your way
	down should because long each just state those people too mr how little good world make very year still see work
	meeting invoice order delivery schedule project budget report question answer customer account update service`)

func (w *benchWriter) word() string { return benchWords[w.random.IntN(len(benchWords))] }

func (w *benchWriter) words(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = w.word()
	}
	return strings.Join(list, " ")
}

// plain writes lines of words, and a link now and then.
func (w *benchWriter) plain(size int, domain string) {
	for end := w.b.Len() + size; w.b.Len() < end; {
		switch w.random.IntN(12) {
		case 0:
			w.b.WriteString("\r\n")
		case 1:
			fmt.Fprintf(&w.b, "https://www.%s/%s/%d\r\n", domain, w.word(), w.random.IntN(10000))
		default:
			w.b.WriteString(w.words(10 + w.random.IntN(4)))
			w.b.WriteString("\r\n")
		}
	}
}

// alternative writes text and HTML, a third and two.
func (w *benchWriter) alternative(size int, domain string) {
	w.b.WriteString("Content-Type: multipart/alternative; boundary=\"inner\"\r\n\r\n--inner\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	w.plain(size/3, domain)
	w.b.WriteString("--inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body>\r\n")
	for end := w.b.Len() + size*2/3; w.b.Len() < end; {
		fmt.Fprintf(&w.b, "<table width=3D\"100%%\"><tr><td style=3D\"font-size:14px;color:#333\">%s\r\n<a href=3D\"https://www.%s/%s/%d\">%s</a></td></tr></table>\r\n",
			w.words(9), domain, w.word(), w.random.IntN(10000), w.words(3))
	}
	w.b.WriteString("</body></html>\r\n--inner--\r\n")
}

// attachment writes base64.
func (w *benchWriter) attachment(size int) {
	raw := make([]byte, 57)
	copy(raw, "%PDF-1.7\n")
	for end := w.b.Len() + size; w.b.Len() < end; {
		w.b.WriteString(base64.StdEncoding.EncodeToString(raw))
		w.b.WriteString("\r\n")
		for i := range raw {
			raw[i] = byte(w.random.Uint32())
		}
	}
}

// What is read of a folder.
const (
	benchFolderMessages = 20_000
	benchFolderBytes    = 256 << 20
)

var errEnough = errors.New("enough")

// storedMail reads the messages of a folder, a Maildir or an mbox, up to the bounds above.
func storedMail(ctx context.Context, path string) (*benchMail, error) {
	mail := &benchMail{}
	total := 0
	err := mailbox.Walk(ctx, path, func(item mailbox.Item) error {
		if item.Err != nil {
			return item.Err
		}
		if total += int(item.Size); total > benchFolderBytes || len(mail.messages) == benchFolderMessages {
			return errEnough
		}
		raw, err := io.ReadAll(io.NewSectionReader(item.Data, 0, item.Size))
		if err != nil {
			return fmt.Errorf("%s: %w", item.Path, err)
		}
		msg, err := message.Read(bytes.NewReader(raw), item.Size)
		if err != nil {
			return fmt.Errorf("%s: %w", item.Path, err)
		}
		i := len(mail.messages)
		mail.messages = append(mail.messages, newBenchMessage(raw, authorDomain(msg, benchDomain(i%benchMessages)), i%benchMessages))
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return nil, err
	case len(mail.messages) == 0:
		return nil, fmt.Errorf("%s: no messages found", path)
	}
	return mail, nil
}

// authorDomain is that of the first address in From, or another where it has none that can stand in an envelope.
func authorDomain(msg *message.Message, otherwise string) string {
	from, _ := msg.Header.First("From")
	addrs, _ := message.ParseAddresses(from.Value())
	for _, a := range addrs {
		if plain := strings.Trim(strings.ToLower(a.Domain), "abcdefghijklmnopqrstuvwxyz0123456789-."); plain == "" && message.OrgDomain(a.Domain) != "" {
			return a.Domain
		}
	}
	return otherwise
}

// sizes gives the median and mean size in bytes.
func (m *benchMail) sizes() (median, mean int) {
	list := make([]int, len(m.messages))
	sum := 0
	for i, msg := range m.messages {
		list[i] = msg.size
		sum += msg.size
	}
	slices.Sort(list)
	return list[len(list)/2], sum / len(list)
}
