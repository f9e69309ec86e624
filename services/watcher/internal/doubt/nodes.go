package doubt

// nodesTogether doubts what is seen when most nodes are not ready at once: "if
// all are sick, suspect the thermometer". What they share is broken, or the
// way by which we hear of them, and no recovery of one of them helps. One
// alone shares nothing with anybody.
func nodesTogether(m *Mind, f Facts) string {
	all, sick := m.nodes(f)
	if all < 2 || 2*sick <= all {
		return ""
	}
	return share(sick, all, "nodes") + " are not ready at once"
}

// nodes counts the nodes, and those that are not ready. One that has never
// been is not counted as long as it is young.
func (m *Mind) nodes(f Facts) (all, sick int) {
	for _, n := range f.Nodes {
		if !n.Ready && n.Young && !m.seenReady[n.UID] {
			continue
		}
		all++
		if !n.Ready {
			sick++
		}
	}
	return all, sick
}
