import { Problem } from "../api/problem";

/** A pairing of this browser with a machine (ADR 17). One for each profile of a browser: a new one takes its place. */
export interface Pairing {
  /** Its thumbprint is the id. The browser signs with it, and gives it to nobody. */
  key: CryptoKey;
  id: string;
  machine: string;
  /** The host name of the machine. */
  name: string;
  /** Where it answers on 127.0.0.1. */
  port: number;
  /** The user of the Hub whose pairing it is. */
  user: string;
  /** Whether it may change things. */
  acts: boolean;
  /** Seconds of UNIX time. */
  expiresAt: number;
}

const DATABASE = "codezero";
const STORE = "pairing";
const ONLY = "current";

/** The pairing that this browser keeps. */
export async function keptPairing(): Promise<Pairing | null> {
  return (await within<Pairing | undefined>("readonly", (store) => store.get(ONLY))) ?? null;
}

/** Keep a pairing, in place of the one before. */
export async function keepPairing(pairing: Pairing): Promise<void> {
  await within("readwrite", (store) => store.put(pairing, ONLY));
}

/** Delete the pairing and its key from this browser, if it is this one. */
export async function deletePairing(id: string): Promise<void> {
  if ((await keptPairing())?.id === id) await within("readwrite", (store) => store.delete(ONLY));
}

async function within<T>(mode: IDBTransactionMode, what: (store: IDBObjectStore) => IDBRequest): Promise<T> {
  try {
    const database = await opened();
    try {
      const transaction = database.transaction(STORE, mode);
      const asked = what(transaction.objectStore(STORE));
      await new Promise<void>((done, failed) => {
        transaction.oncomplete = () => {
          done();
        };
        transaction.onabort = transaction.onerror = () => {
          failed(transaction.error ?? new Error("the browser has broken it off"));
        };
      });
      return asked.result as T;
    } finally {
      database.close();
    }
  } catch (error) {
    throw new Problem({
      status: 0,
      code: "CZ-GUI-003",
      title: "This browser keeps no pairing",
      detail: `The browser does not let this page keep a key: ${String(error)}.`,
      fix: "Private windows keep none. Use a usual window, or the local console: czctl ui.",
    });
  }
}

function opened(): Promise<IDBDatabase> {
  return new Promise((done, failed) => {
    const asked = indexedDB.open(DATABASE, 1);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore(STORE);
    };
    asked.onsuccess = () => {
      done(asked.result);
    };
    asked.onerror = () => {
      failed(asked.error ?? new Error("there is no database"));
    };
  });
}
