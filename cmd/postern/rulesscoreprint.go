package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"postern/filters/model/measure"
)

// A scoreReport is what -json prints.
type scoreReport struct {
	Rules   int       `json:"rules"` // how many there are
	Spam    int       `json:"spam"`  // messages
	Ham     int       `json:"ham"`
	Reports int       `json:"dsn"`
	Figures []figures `json:"figures"`
}

// figures are those of the rules, the classifier, or both.
type figures struct {
	Name       string             `json:"name"`
	Thresholds []thresholdFigures `json:"thresholds"`
	Caught     []caughtFigures    `json:"caught"`
	Area       float64            `json:"auc"`
	Folders    []folderFigures    `json:"folders"`
}

// thresholdFigures tell what reaches a threshold of the policy.
type thresholdFigures struct {
	Action  string   `json:"action"`
	Points  float64  `json:"points"`
	Spam    *portion `json:"spam"`
	Ham     *portion `json:"ham"`
	Reports *portion `json:"dsn,omitempty"`
}

// caughtFigures tell what the best threshold catches that flags no more than the allowed part of the ham.
type caughtFigures struct {
	Allowed   float64  `json:"allowed"`
	Threshold *float64 `json:"threshold"` // null: none
	Spam      *portion `json:"spam"`
	Ham       *portion `json:"ham"`
}

// folderFigures tell what part of a folder is flagged at the tag threshold and at those of caughtFigures.
type folderFigures struct {
	Class   class    `json:"class"`
	Folder  string   `json:"folder"`
	Tagged  *portion `json:"tagged"`
	AtTenth *portion `json:"at_0.1_percent"`
	AtWhole *portion `json:"at_1_percent"`
}

// A portion is one of messages, with its 95 % interval.
type portion struct {
	K    int     `json:"k"`
	N    int     `json:"n"`
	Rate float64 `json:"rate"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	of   measure.Share
}

func newPortion(s measure.Share) *portion {
	low, high := s.Interval()
	return &portion{K: s.K, N: s.N, Rate: s.Rate(), Low: low, High: high, of: s}
}

// finite gives nil for what JSON has no number for.
func finite(x float64) *float64 {
	if math.IsInf(x, 0) {
		return nil
	}
	return &x
}

var figureTitles = map[string]string{
	"rules":      "Rules alone",
	"classifier": "Classifier alone",
	"both":       "Rules and classifier",
}

func (r *scoreReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	fmt.Fprintf(w, "%d rules; %d spam, %d ham", r.Rules, r.Spam, r.Ham)
	if r.Reports > 0 {
		fmt.Fprintf(w, ", %d bounces", r.Reports)
	}
	fmt.Fprintln(w)
	for i := range r.Figures {
		if err := r.Figures[i].print(w); err != nil {
			return err
		}
	}
	return nil
}

func (f *figures) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n", figureTitles[f.Name])
	for _, t := range f.Thresholds {
		fmt.Fprintf(w, "  %s, at %g points:\n", t.Action, t.Points)
		fmt.Fprintf(w, "    spam    %s\n", interval(t.Spam.of))
		fmt.Fprintf(w, "    ham     %s\n", interval(t.Ham.of))
		if t.Reports != nil {
			fmt.Fprintf(w, "    bounces %s\n", interval(t.Reports.of))
		}
	}
	for _, c := range f.Caught {
		at := "no threshold"
		if c.Threshold != nil {
			at = fmt.Sprintf("from %.6g", *c.Threshold)
		}
		fmt.Fprintf(w, "  with at most %g %% of the ham (%s):\n    spam    %s\n", c.Allowed*100, at, interval(c.Spam.of))
	}
	fmt.Fprintf(w, "  area under the ROC curve: %.5f\n\n", f.Area)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "messages\ttagged\tat 0.1 %\tat 1 %\t   class\t\tfolder")
	for _, row := range f.Folders {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t\t%s\n", row.Tagged.N, row.Tagged, row.AtTenth, row.AtWhole, row.Class, printable(row.Folder))
	}
	return table.Flush()
}

func (s *portion) String() string { return fmt.Sprintf("%.2f %%", 100*s.Rate) }
