package retinaface

/** Boxes that take part in suppression, at most; the best. */
private const val TOP = 5000

/**
 * Greedy non-maximum suppression: the best box of every group that overlaps by more than [iou].
 *
 * @param scores one a box; equal scores keep their order.
 * @param maxFaces stop after so many.
 * @return indices into [boxes], best first.
 */
internal fun suppress(boxes: List<Box>, scores: FloatArray, iou: Float, maxFaces: Int): List<Int> {
    val order = boxes.indices.sortedByDescending { scores[it] }.take(TOP)
    val kept = ArrayList<Int>()
    for (i in order) {
        if (kept.size == maxFaces) break
        if (kept.none { overlaps(boxes[it], boxes[i], iou) }) kept += i
    }
    return kept
}

/** Without a division, so that no box is compared with a rounded quotient. */
private fun overlaps(a: Box, b: Box, iou: Float): Boolean {
    val across = maxOf(0f, minOf(a.right, b.right) - maxOf(a.left, b.left))
    val down = maxOf(0f, minOf(a.bottom, b.bottom) - maxOf(a.top, b.top))
    val intersection = across * down
    return intersection > iou * (a.width * a.height + b.width * b.height - intersection)
}
