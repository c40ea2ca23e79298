package retinaface.demo

/** How a picture lies in a view: as large as fits, in the middle, perhaps mirrored. */
data class FitCenter(
    val scale: Float,
    val left: Float,
    val top: Float,
    val width: Float,
    val height: Float,
    val mirrored: Boolean = false,
) {
    fun x(pictureX: Float): Float = left + if (mirrored) width - pictureX * scale else pictureX * scale

    fun y(pictureY: Float): Float = top + pictureY * scale

    companion object {
        fun of(
            pictureWidth: Int,
            pictureHeight: Int,
            viewWidth: Int,
            viewHeight: Int,
            mirrored: Boolean = false,
        ): FitCenter {
            val scale = minOf(viewWidth.toFloat() / pictureWidth, viewHeight.toFloat() / pictureHeight)
            val width = pictureWidth * scale
            val height = pictureHeight * scale
            return FitCenter(scale, (viewWidth - width) / 2, (viewHeight - height) / 2, width, height, mirrored)
        }
    }
}
