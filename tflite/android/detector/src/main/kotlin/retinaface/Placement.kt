package retinaface

/**
 * Where a picture lies in the network's input: shrunk to fit if it is larger, never distorted, in
 * the upper left, with padding to the right and below.
 *
 * @property width of the picture in pixels; likewise [height].
 * @property contentWidth of the picture as the network sees it; likewise [contentHeight].
 * @property inputWidth of the network's input; likewise [inputHeight].
 */
data class Placement(
    val width: Int,
    val height: Int,
    val contentWidth: Int,
    val contentHeight: Int,
    val inputWidth: Int,
    val inputHeight: Int,
) {
    /** Factor from the picture's pixels to the input's, to the right. */
    val scaleX: Float get() = (contentWidth.toDouble() / width).toFloat()

    /** Factor from the picture's pixels to the input's, down. */
    val scaleY: Float get() = (contentHeight.toDouble() / height).toFloat()

    companion object {
        /** Fits a picture into an input. */
        fun fit(width: Int, height: Int, inputWidth: Int, inputHeight: Int): Placement {
            val scale = minOf(1.0, inputWidth.toDouble() / width, inputHeight.toDouble() / height)
            return Placement(
                width,
                height,
                Math.rint(width * scale).toInt().coerceIn(1, inputWidth),
                Math.rint(height * scale).toInt().coerceIn(1, inputHeight),
                inputWidth,
                inputHeight,
            )
        }
    }
}
