package retinaface.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import android.net.Uri
import java.io.IOException

/** A picture that cannot be shown; [text] is a string resource that says why. */
class PictureException(val text: Int, cause: Throwable? = null) : Exception(cause)

/** Reads pictures that other apps hand over, upright and less than twice [MAX_SIDE] pixels long. */
class PictureReader(private val resolver: ContentResolver) {
    /** @throws PictureException it is none, or cannot be read. */
    fun read(uri: Uri): Bitmap =
        try {
            val bytes = resolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException("no stream")
            upright(decode(bytes), orientation(bytes))
        } catch (error: IOException) {
            throw PictureException(R.string.picture_gone, error)
        } catch (error: SecurityException) {
            throw PictureException(R.string.picture_gone, error)
        } catch (error: OutOfMemoryError) {
            throw PictureException(R.string.picture_too_large, error)
        }

    private fun decode(bytes: ByteArray): Bitmap {
        val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)
        val longest = maxOf(options.outWidth, options.outHeight)
        if (minOf(options.outWidth, options.outHeight) < 1) throw PictureException(R.string.picture_unreadable)
        val reading = BitmapFactory.Options().apply {
            inSampleSize = Integer.highestOneBit(maxOf(1, longest / MAX_SIDE))
            inPreferredConfig = Bitmap.Config.ARGB_8888
        }
        return BitmapFactory.decodeByteArray(bytes, 0, bytes.size, reading)
            ?: throw PictureException(R.string.picture_unreadable)
    }

    /** 1 where there is none, or a damaged one: that must not cost the picture. */
    private fun orientation(bytes: ByteArray): Int =
        try {
            ExifInterface(bytes.inputStream()).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1)
        } catch (error: IOException) {
            1
        }

    private fun upright(bitmap: Bitmap, orientation: Int): Bitmap {
        val matrix = Matrix()
        when (orientation) {
            ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> matrix.setScale(-1f, 1f)
            ExifInterface.ORIENTATION_ROTATE_180 -> matrix.setRotate(180f)
            ExifInterface.ORIENTATION_FLIP_VERTICAL -> matrix.setScale(1f, -1f)
            ExifInterface.ORIENTATION_TRANSPOSE -> matrix.apply { setRotate(90f) }.postScale(-1f, 1f)
            ExifInterface.ORIENTATION_ROTATE_90 -> matrix.setRotate(90f)
            ExifInterface.ORIENTATION_TRANSVERSE -> matrix.apply { setRotate(270f) }.postScale(-1f, 1f)
            ExifInterface.ORIENTATION_ROTATE_270 -> matrix.setRotate(270f)
            else -> return bitmap
        }
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, matrix, true)
    }

    companion object {
        const val MAX_SIDE = 2048
    }
}
