package table

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestColumnsKeepTheWidthsTheyHaveHad(t *testing.T) {
	var out strings.Builder
	w := New(&out, "NAME", "SAYS")
	for _, rows := range [][][]string{{{"a", "één"}, {"a longer one", ""}}, nil, {{"b", "x"}}} {
		if err := w.Write(rows...); err != nil {
			t.Fatal(err)
		}
	}
	want := "" +
		"NAME          SAYS\n" +
		"a             één\n" +
		"a longer one  -\n" +
		"b             x\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("wrote (-want +got):\n%s", diff)
	}
}

func TestNoCellOfASpreadsheetIsAFormula(t *testing.T) {
	var out strings.Builder
	w, err := NewCSV(&out, "name", "says")
	if err != nil {
		t.Fatal(err)
	}
	for _, evil := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\x1b[31mred", "plain", `with "quotes", and more`} {
		if err := w.Write([]string{"x", evil}); err != nil {
			t.Fatal(err)
		}
	}
	want := "name,says\nx,'=1+1\nx,'+1\nx,'-1\nx,'@SUM(A1)\nx,\" =1\"\nx,[31mred\nx,plain\nx,\"with \"\"quotes\"\", and more\"\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("wrote (-want +got):\n%s", diff)
	}
}
