package retinaface

import android.graphics.Bitmap

/**
 * Pixels that a detector can search, upright. Rows are asked for from the top, each once; those of places that
 * are looked at more closely, again.
 */
interface Picture {
    val width: Int
    val height: Int

    /** Puts the pixels of row [y] into [into], as 0xRRGGBB; higher bits mean nothing. */
    fun readRow(y: Int, into: IntArray)
}

/** A bitmap that may be changed or recycled once it was searched. Transparency is not looked at. */
class BitmapPicture(private val bitmap: Bitmap) : Picture {
    override val width: Int get() = bitmap.width
    override val height: Int get() = bitmap.height

    override fun readRow(y: Int, into: IntArray) = bitmap.getPixels(into, 0, width, 0, y, width, 1)
}
