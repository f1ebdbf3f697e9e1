"""What tests share: peers, fakes and builders."""
