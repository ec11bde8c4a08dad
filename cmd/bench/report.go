package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// report is what a run has found out so far.
type report struct {
	rows   []row
	ratios []ratio
}

// row is a line of the table: a figure of both sides.
type row struct {
	name        string
	unit        string
	raw, tunnel float64 // raw 0: there is no such figure
	goal        string
}

// ratio is a line that scripts read.
type ratio struct {
	name  string
	value float64
}

// compare adds a figure of both sides and their ratio.
func (r *report) compare(name, key, unit string, raw, tunnel float64, goal string) {
	r.rows = append(r.rows, row{name, unit, raw, tunnel, goal})
	r.ratio(key, tunnel/raw)
}

// absolute adds a figure that has no counterpart on the raw side.
func (r *report) absolute(name, key, unit string, value float64, goal string) {
	r.rows = append(r.rows, row{name: name, unit: unit, tunnel: value, goal: goal})
	r.ratio(key, value)
}

func (r *report) ratio(key string, value float64) {
	r.ratios = append(r.ratios, ratio{key, value})
	fmt.Printf("ratio %s %.3g\n", key, value)
}

// write prints the table.
func (r *report) write(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nfigure\traw\tsstproxy\tunit\tratio\tgoal")
	for _, row := range r.rows {
		raw, quotient := "", ""
		if row.raw != 0 {
			raw, quotient = fmt.Sprintf("%.3g", row.raw), fmt.Sprintf("%.2f", row.tunnel/row.raw)
		}
		fmt.Fprintf(t, "%s\t%s\t%.3g\t%s\t%s\t%s\n", row.name, raw, row.tunnel, row.unit, quotient, row.goal)
	}
	t.Flush()
}

// progress says on standard error what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
