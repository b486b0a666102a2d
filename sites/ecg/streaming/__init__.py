"""ECG signals as they arrive: filters, R peaks and beats that never wait for the end of a recording."""
