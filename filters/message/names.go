package message

import (
	"path"
	"strings"
	"unicode"
)

// Attachments are sorted into kinds, which say what happens when somebody opens the file: a program runs, a disk image
// is mounted, a page is shown. Systems go by the extension of the name, and programs often by the content, so both count.

// kindExtensions are the extensions of each kind that is told by names.
var kindExtensions = map[string]string{
	"executable": "exe scr com pif cpl dll ocx sys drv msi msp mst msix appx msixbundle appxbundle xll gadget jar apk ipa app pkg deb rpm elf run",
	"script":     "js jse mjs vbs vbe vb ws wsf wsh wsc sct hta ps1 psm1 psd1 ps1xml psc1 bat cmd btm sh bash csh ksh command py pyw pyc pl rb lua ahk au3 a3x reg inf jnlp msh mshxml scpt applescript cs",
	"shortcut":   "lnk url website scf desktop webloc library-ms searchconnector-ms search-ms settingcontent-ms appref-ms application",
	"disk_image": "iso img vhd vhdx udf vmdk dmg vdi nrg mdf",
	"archive":    "zip zipx rar r00 r01 7z gz tgz tar bz2 tbz tbz2 xz txz zst lz lzma z cab arj ace lzh lha arc uue uu xxe paq sit sitx wim alz egg",
	"office":     "doc docx dot dotx xls xlsx xlt xltx xlsb ppt pptx pps ppsx pot potx rtf odt ods odp odg ott pub vsd vsdx mdb accdb wps slk iqy dif mpp",
	"macros":     "docm dotm xlsm xltm xlam xla pptm potm ppsm ppam ppa sldm xlm",
	"onenote":    "one onepkg onetoc2",
	"help":       "chm hlp",
	"html":       "html htm shtml shtm xhtml xht mht mhtml",
	"svg":        "svg svgz",
	"pdf":        "pdf fdf xfdf",
	"image":      "jpg jpeg jpe jfif png gif bmp tif tiff webp heic heif avif ico psd",
	"audio":      "mp3 wav ogg oga flac m4a aac wma mid midi amr opus",
	"video":      "mp4 m4v mov avi mkv webm wmv mpg mpeg flv 3gp",
	"text":       "txt log md csv tsv xml json yaml yml ini cfg conf diff patch asc",
	"message":    "eml msg mbox",
	"calendar":   "ics vcs",
	"contact":    "vcf",
	"font":       "ttf otf woff woff2",
	"signature":  "p7s p7m p7b sig pgp gpg",
}

// kindOfExtension is the kind of an extension in lower case.
var kindOfExtension = func() map[string]string {
	m := map[string]string{}
	for kind, list := range kindExtensions {
		for ext := range strings.FieldsSeq(list) {
			m[ext] = kind
		}
	}
	return m
}()

// kindOfType is the kind of a media type that the content tells.
var kindOfType = map[string]string{
	"application/zip": "archive", "application/vnd.rar": "archive", "application/x-7z-compressed": "archive", "application/gzip": "archive",
	"application/x-bzip2": "archive", "application/x-xz": "archive", "application/zstd": "archive", "application/vnd.ms-cab-compressed": "archive",
	"application/x-ace-compressed": "archive", "application/x-lzh-compressed": "archive", "application/x-arj": "archive", "application/x-tar": "archive",
	"application/pdf": "pdf", "application/x-msdownload": "executable", "application/x-executable": "executable",
	"application/x-mach-binary": "executable", "application/java-vm": "executable", "application/java-archive": "executable",
	"application/vnd.android.package-archive": "executable", "application/x-iso9660-image": "disk_image", "application/x-vhdx": "disk_image",
	"application/x-vhd": "disk_image", "application/x-vmdk": "disk_image", "application/x-apple-diskimage": "disk_image", "application/x-ms-shortcut": "shortcut",
	"application/onenote": "onenote", "application/vnd.ms-htmlhelp": "help", "application/vnd.ms-tnef": "message", "application/rtf": "office",
	"application/x-ole-storage": "office", "application/vnd.oasis.opendocument": "office", "text/html": "html", "image/svg+xml": "svg",
	"text/x-shellscript": "script", "text/calendar": "calendar", "text/vcard": "contact", "message/rfc822": "message", "message/global": "message",
}

// contentKind is the kind that the content tells; empty where it tells nothing, as plain text and unknown data.
func contentKind(mediaType string) string {
	if kind := kindOfType[mediaType]; kind != "" {
		return kind
	}
	if strings.HasPrefix(mediaType, "application/vnd.openxmlformats-officedocument.") || strings.HasPrefix(mediaType, "application/vnd.ms-") {
		return "office"
	}
	switch major, _, _ := strings.Cut(mediaType, "/"); major {
	case "image", "audio", "video", "font":
		return major
	}
	return ""
}

// AttachmentKinds are the kinds that an [Attachment] can have.
func AttachmentKinds() []string {
	kinds := []string{"other"}
	for kind := range kindExtensions {
		kinds = append(kinds, kind)
	}
	return kinds
}

// extension is the last extension of a file name, in lower case and without the point, as the system sees it that opens
// the file: what is invisible in the name and white space at its end do not count.
func extension(name string) string {
	name = strings.TrimRightFunc(strings.Map(dropBidi, name), func(r rune) bool { return r == '.' || isBlank(r) })
	ext := strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))
	if len(ext) > 20 || strings.ContainsFunc(ext, isBlank) {
		return ""
	}
	return ext
}

// kinds are the kinds of a file: what its content tells, and what its name adds to it.
func (a *Attachment) kinds() []string {
	byContent, byName := contentKind(a.RealType), kindOfExtension[a.Extension]
	var kinds []string
	add := func(kind string) {
		for _, k := range kinds {
			if k == kind {
				return
			}
		}
		kinds = append(kinds, kind)
	}
	if byContent != "" {
		add(byContent)
	}
	switch {
	case byName == "":
	case byContent == "":
		add(byName)
	case runs(byName) || byName == "macros":
		add(byName) // it does what the name says, whatever else it looks like
	}
	if a.macros || strings.HasSuffix(a.RealType, ".macroenabled.12") {
		add("macros")
	}
	if byName == "macros" {
		add("office")
	}
	if len(kinds) == 0 {
		if strings.HasPrefix(a.RealType, "text/") {
			return []string{"text"}
		}
		return []string{"other"}
	}
	return kinds
}

// runs reports whether a file of the kind does something when it is opened that no document does.
func runs(kind string) bool {
	switch kind {
	case "executable", "script", "shortcut", "disk_image", "help", "onenote":
		return true
	}
	return false
}

// insideKinds are the kinds of the names in an archive, each once, after those that the contents tell.
func insideKinds(names, kinds []string) []string {
	seen := map[string]bool{}
	for _, kind := range kinds {
		seen[kind] = true
	}
	for _, name := range names {
		kind := kindOfExtension[extension(name)]
		if kind == "" || seen[kind] {
			continue
		}
		seen[kind] = true
		kinds = append(kinds, kind)
	}
	return kinds
}

// NameTricks are the ways in which the name of an attachment can lie, each with its meaning.
func NameTricks() map[string]string {
	return map[string]string{
		"double_extension": "the extension of a document stands before that of a program or a page: invoice.pdf.exe",
		"bidi_name":        "characters in the name turn the direction of writing, so that it reads otherwise than it ends",
		"padded_name":      "white space pushes the extension out of sight",
		"type_mismatch":    "the content is a program, an archive or the like, and the name says otherwise",
	}
}

// nameTricks finds those of a file's name.
func (a *Attachment) nameTricks() []string {
	var tricks []string
	if hasDoubleExtension(a.Name, a.Extension) {
		tricks = append(tricks, "double_extension")
	}
	if strings.IndexFunc(a.Name, func(r rune) bool { return dropBidi(r) < 0 }) >= 0 {
		tricks = append(tricks, "bidi_name")
	}
	if isPadded(a.Name) {
		tricks = append(tricks, "padded_name")
	}
	if mismatch(contentKind(a.RealType), kindOfExtension[a.Extension]) {
		tricks = append(tricks, "type_mismatch")
	}
	return tricks
}

func hasDoubleExtension(name, last string) bool {
	kind := kindOfExtension[last]
	if !runs(kind) && kind != "html" && kind != "svg" {
		return false
	}
	name = strings.TrimRightFunc(strings.Map(dropBidi, name), func(r rune) bool { return r == '.' || isBlank(r) })
	before := extension(name[:max(0, len(name)-len(last)-1)])
	switch kindOfExtension[before] {
	case "pdf", "office", "macros", "image", "text", "audio", "video", "onenote":
		return true
	case "html":
		return kind != "html"
	}
	return false
}

// minPadding is how many blanks in a row no honest file name has.
const minPadding = 5

func isPadded(name string) bool {
	blanks := 0
	for _, r := range name {
		if !isBlank(r) {
			blanks = 0
			continue
		}
		if blanks++; blanks >= minPadding {
			return true
		}
	}
	return false
}

// mismatch reports whether content of one kind is passed off as another that is trusted more. Exports of programs are often
// HTML or text under the name of a table, and are let through.
func mismatch(content, name string) bool {
	if content == name || content == "" || name == "" {
		return false
	}
	harmless := false
	switch name {
	case "pdf", "image", "audio", "video", "text", "calendar", "contact":
		harmless = true
	}
	switch content {
	case "executable", "shortcut", "disk_image", "onenote", "help":
		return name != "executable" && name != "script" && name != "archive" && name != "disk_image"
	case "script":
		return harmless && name != "text" || name == "office"
	case "html":
		return harmless && name != "text"
	case "archive", "office", "svg":
		return harmless
	}
	return false
}

// dropBidi is a mapping for [strings.Map] that removes what turns the direction of writing, and what has no width.
func dropBidi(r rune) rune {
	switch {
	case r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069, r >= 0x200B && r <= 0x200F, r == 0x061C, r == 0xFEFF:
		return -1
	}
	return r
}

// isBlank reports whether a character shows as nothing but takes space.
func isBlank(r rune) bool {
	return unicode.IsSpace(r) || r == 0x2800 || r == 0x3164 || r == 0xFFA0
}
