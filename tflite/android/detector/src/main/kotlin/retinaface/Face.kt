package retinaface

/** A place in a picture: [x] to the right and [y] down, in pixels from the upper left corner. */
data class Point(val x: Float, val y: Float)

/** A rectangle in pixels; coordinates are continuous, so it is [right] - [left] wide. */
data class Box(val left: Float, val top: Float, val right: Float, val bottom: Float) {
    val width: Float get() = right - left
    val height: Float get() = bottom - top

    /** Intersection over union with [other], 0..1; 0 where both are empty. */
    fun overlap(other: Box): Float {
        val across = maxOf(0f, minOf(right, other.right) - maxOf(left, other.left))
        val down = maxOf(0f, minOf(bottom, other.bottom) - maxOf(top, other.top))
        val union = width * height + other.width * other.height - across * down
        return if (union > 0f) across * down / union else 0f
    }
}

/**
 * A face in a picture.
 *
 * @property box inside the picture.
 * @property score probability, 0..1.
 * @property landmarks left eye, right eye, nose, left and right corner of the mouth. Left and right
 *   are the picture's. A point of a face that is cut off may lie outside of the picture.
 */
data class Face(val box: Box, val score: Float, val landmarks: List<Point>)
