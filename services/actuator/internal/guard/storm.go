package guard

// storm refuses to act on a node when many are unhealthy: then something is
// broken that they share, or we are the ones who cannot see.
var storm = Guard{Name: "storm", Judge: func(f Facts) Verdict {
	if f.Node == nil {
		return Allow("%s is not a node", f.Target)
	}
	zone := f.Node.Labels["topology.kubernetes.io/zone"]
	var all, sick, zoneAll, zoneSick int
	for _, n := range f.Nodes {
		all++
		if n.Zone == zone {
			zoneAll++
		}
		if n.Ready {
			continue
		}
		sick++
		if n.Zone == zone {
			zoneSick++
		}
	}
	// A share alone would heal no cluster of fewer than five nodes.
	if limit := max(1, float64(all)*0.20); float64(sick) > limit {
		return Veto("Storm", "%d of %d nodes are unhealthy, more than %.0f: that is not about %s alone", sick, all, limit, f.Target)
	}
	if zone != "" && zoneAll > 2 && float64(zoneSick) >= float64(zoneAll)*0.55 {
		return Veto("Storm", "%d of %d nodes of zone %s are unhealthy, 55 %% or more: that is not about %s alone", zoneSick, zoneAll, zone, f.Target)
	}
	return Allow("%d of %d nodes are unhealthy", sick, all)
}}
