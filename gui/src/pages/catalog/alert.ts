import classes from "./Catalog.module.css";

/** Titles of alerts in the colour of text: in their own they are too pale on their ground (WCAG 2.2, 1.4.3). */
export const ALERT = { title: classes.alertTitle ?? "" };
