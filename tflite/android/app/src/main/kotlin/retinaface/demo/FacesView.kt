package retinaface.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View
import retinaface.Face

/** Draws boxes, points and scores over the camera's preview, or over a picture of its own. */
class FacesView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val density = resources.displayMetrics.density
    private val boxPaint = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        style = Paint.Style.STROKE
        color = BOX_COLOR
        strokeWidth = 3 * density
    }
    private val pointPaint = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = POINT_COLOR }
    private val textPaint = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = BOX_COLOR
        textSize = 14 * density
        setShadowLayer(2 * density, 0f, 0f, Color.BLACK)
    }
    private val picturePaint = Paint(Paint.FILTER_BITMAP_FLAG)
    private var picture: Bitmap? = null
    private var finding: Finding? = null
    private var mirrored = false

    /** Shows what was found in a frame, over whatever is below this view. */
    fun showFrame(finding: Finding, mirrored: Boolean) = show(null, finding, mirrored)

    /** Shows a picture and, once it was searched, what was found in it. */
    fun showPicture(picture: Bitmap, finding: Finding?) = show(picture, finding, false)

    /** Shows nothing. */
    fun clear() = show(null, null, false)

    private fun show(picture: Bitmap?, finding: Finding?, mirrored: Boolean) {
        this.picture = picture
        this.finding = finding
        this.mirrored = mirrored
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        picture?.let {
            canvas.drawColor(Color.BLACK)
            val fit = FitCenter.of(it.width, it.height, width, height)
            val place = RectF(fit.left, fit.top, fit.left + fit.width, fit.top + fit.height)
            canvas.drawBitmap(it, null, place, picturePaint)
        }
        val found = finding ?: return
        val fit = FitCenter.of(found.width, found.height, width, height, mirrored)
        for (face in found.faces) draw(canvas, face, fit)
    }

    private fun draw(canvas: Canvas, face: Face, fit: FitCenter) {
        val edges = listOf(fit.x(face.box.left), fit.x(face.box.right))
        val top = fit.y(face.box.top)
        canvas.drawRect(edges.min(), top, edges.max(), fit.y(face.box.bottom), boxPaint)
        val radius = maxOf(1.5f * density, (edges.max() - edges.min()) / 40)
        for (point in face.landmarks) canvas.drawCircle(fit.x(point.x), fit.y(point.y), radius, pointPaint)
        canvas.drawText("%.2f".format(face.score), edges.min(), top - 4 * density, textPaint)
    }

    companion object {
        const val BOX_COLOR = 0xFF4DD0A7.toInt()
        const val POINT_COLOR = 0xFFFFD54F.toInt()
    }
}
