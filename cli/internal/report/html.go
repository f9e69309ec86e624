package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
)

//go:embed report.css
var style string

//go:embed report.html
var frame string

// HTML writes the report as one page. It loads nothing and runs nothing: its
// Content-Security-Policy allows its own style alone, by the hash of it, so
// that even markup that got in could do nothing.
func (r Report) HTML(w io.Writer) error {
	t, err := template.New("report").Parse(frame)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(style))
	return t.Execute(w, struct {
		page
		Style  template.CSS
		Policy string
	}{
		r.page(),
		template.CSS(style),
		"default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
	})
}
