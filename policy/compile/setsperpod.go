package compile

import "iter"

// setText is the canonical text of a selection of pods, which tells sets apart.
type setText struct{ namespaces, pods string }

// setsPerPod bounds the sets of pods that one pod can be a member of, whatever labels it has. The sets together
// have at most so many members for each address of a pod. It follows from the selectors alone: who is in a cluster
// does not change it.
//
// Each selector is counted under one of its requirements. A pod has one value of a label, so that of the selectors
// under one key it can match those of one value only.
func setsPerPod(sets map[setText]*podSelection) int {
	frequency := map[anchor]int{}
	for _, s := range sets {
		for _, places := range anchorsOf(s) {
			for _, a := range places {
				frequency[a]++
			}
		}
	}
	counted := map[anchor]int{}
	for _, s := range sets {
		for _, a := range rarest(anchorsOf(s), frequency) {
			counted[a]++
		}
	}
	return mostInOnePod(counted)
}

// rarest is the list whose most frequent anchor is the least frequent.
func rarest(lists [][]anchor, frequency map[anchor]int) (best []anchor) {
	fewest := -1
	for _, places := range lists {
		most := 0
		for _, a := range places {
			most = max(most, frequency[a])
		}
		if fewest < 0 || most < fewest {
			best, fewest = places, most
		}
	}
	return best
}

// mostInOnePod sums up, by key of labels, the largest count of one value. Of the anchors in namespaces of a
// given name, those of one namespace count.
func mostInOnePod(counted map[anchor]int) int {
	largest, always := map[anchor]int{}, map[anchor]int{}
	for a, n := range counted {
		key := a
		key.label.value, key.label.any = "", false
		if a.label.any || a.label.key == "" {
			always[key] += n
			continue
		}
		largest[key] = max(largest[key], n)
	}
	byNamespace := map[string]int{}
	for _, counts := range [...]map[anchor]int{largest, always} {
		for key, n := range counts {
			byNamespace[key.namespace] += n
		}
	}
	most := 0
	for name, n := range byNamespace {
		if name != "" {
			most = max(most, n)
		}
	}
	return most + byNamespace[""]
}

// podSets are the sets of pods that rules refer to.
func podSets(rules iter.Seq[rule]) map[setText]*podSelection {
	out := map[setText]*podSelection{}
	for r := range rules {
		for _, def := range r.peers {
			if def.pods != nil {
				out[setText{def.pods.namespaces.text, def.pods.pods.text}] = def.pods
			}
		}
	}
	return out
}

// setsPerPodOver is setsPerPod of the sets that rules refer to, and 0 where these are no more than the limit.
func setsPerPodOver(limit int, rules iter.Seq[rule]) int {
	peers := 0
	for r := range rules {
		if peers += len(r.peers); peers > limit {
			return setsPerPod(podSets(rules))
		}
	}
	return 0
}
