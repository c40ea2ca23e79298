package retinaface.demo

import android.app.Activity
import android.view.View
import android.widget.Button
import android.widget.TextView

/** The panel in the middle of the screen that says what is wrong, and offers a way on where there is one. */
class MessagePanel(activity: Activity) {
    private val panel = activity.findViewById<View>(R.id.message_panel)
    private val message = activity.findViewById<TextView>(R.id.message)
    private val button = activity.findViewById<Button>(R.id.message_action)

    /** Shows a sentence alone. */
    fun show(text: String) = show(text, View.GONE)

    /** Shows a sentence and a button that leads on. */
    fun show(text: String, actionText: Int, action: () -> Unit) {
        button.setText(actionText)
        button.setOnClickListener { action() }
        show(text, View.VISIBLE)
    }

    fun hide() {
        panel.visibility = View.GONE
    }

    private fun show(text: String, buttonVisibility: Int) {
        message.text = text
        button.visibility = buttonVisibility
        panel.visibility = View.VISIBLE
    }
}
